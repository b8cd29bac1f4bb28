//! What the controllers answer, whatever carries it.

use std::ops::Range;

use wire::fabrics::{FabricsType, connect::ConnectResponse};
use wire::nvme::Sqe;
use wire::nvme::command::{Identify, ReadWrite};
use wire::nvme::identify::{Cns, IdentifyController, IdentifyNamespace, LbaFormat, sgls};
use wire::nvme::register::{Cap, ControllerStatus, offset};
use zerocopy::little_endian::{U16, U32, U64};

/// Blocks of the namespace, 4096 bytes each.
pub const BLOCKS: usize = 1024;
/// In-capsule data of I/O queues.
pub const CAPSULE_DATA_BYTES: u32 = 8192;
const CNTLID: u16 = 5;

/// The result of a fabrics command.
pub fn fabrics(sqe: &Sqe, enabled: &mut bool) -> u64 {
    match sqe.fabrics_type() {
        Some(FabricsType::CONNECT) => {
            let response = ConnectResponse {
                cntlid: CNTLID,
                authreq: 0,
            };
            u64::from(response.encode())
        }
        Some(FabricsType::PROPERTY_GET) => match sqe.cdw11.get() {
            offset::CAP => Cap::default().with_mqes(127).with_timeout_500ms(2).0,
            offset::CSTS if *enabled => ControllerStatus::default().with_rdy(1).0.into(),
            _ => 0,
        },
        Some(FabricsType::PROPERTY_SET) => {
            *enabled = true;
            0
        }
        other => panic!("no fabrics command {other:?} here"),
    }
}

/// The data of an Identify.
pub fn identify(sqe: &Sqe) -> Vec<u8> {
    match Identify::decode(sqe).expect("an Identify").cns {
        Cns::CONTROLLER => IdentifyController {
            cntlid: U16::new(CNTLID),
            ioccsz: U32::new((64 + CAPSULE_DATA_BYTES) / 16),
            sgls: U32::new(sgls::SUPPORTED | sgls::KEYED | sgls::OFFSET_ADDRESS),
            ..IdentifyController::zeroed()
        }
        .as_wire()
        .to_vec(),
        _ => namespace().as_wire().to_vec(),
    }
}

fn namespace() -> IdentifyNamespace {
    let mut namespace = IdentifyNamespace::zeroed();
    namespace.nsze = U64::new(BLOCKS as u64);
    namespace.lbaf[0] = LbaFormat::new(12);
    namespace
}

/// The bytes of the namespace that an I/O command names.
pub fn bytes_of(sqe: &Sqe) -> Range<usize> {
    let range = ReadWrite::decode(sqe).expect("a range");
    let start = range.slba as usize * 4096;
    start..start + range.block_count() as usize * 4096
}
