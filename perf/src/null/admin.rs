//! What the null target says of itself: just enough for a host to connect and identify it.

use std::net::IpAddr;

use wire::fabrics::FabricsType;
use wire::fabrics::connect::{ConnectCommand, ConnectResponse};
use wire::fabrics::discovery::{
    AddressFamily, DiscoveryEntry, DiscoveryHeader, SubsystemType, TransportType,
};
use wire::fabrics::property::{PropertyGet, PropertySet};
use wire::nvme::command::{GetLogPage, Identify, SetFeatures};
use wire::nvme::feature::FeatureId;
use wire::nvme::identify::{
    Cns, IDENTIFY_BYTES, IdentifyController, IdentifyNamespace, LbaFormat, cntrltype, sgls,
};
use wire::nvme::log::LogId;
use wire::nvme::register::{Cap, Config, ControllerStatus, Version, offset};
use wire::nvme::{AdminOpcode, Sqe, Status};
use wire::text::{Ascii, NqnField};
use zerocopy::little_endian::{U16, U32, U64};

use super::{Disguise, Protocol};

/// Name of the only subsystem.
const NQN: &str = "nqn.2026-11.io.bedplate.perf:null";
/// Entries of a queue.
const QUEUE_ENTRIES: u16 = 4096;
/// Every controller is this one: none keeps any state that would differ.
const CNTLID: u16 = 1;
/// MDTS: 2^12 pages of 4 KiB, 16 MiB.
const MDTS: u8 = 12;
/// MDTS over RDMA, where a command has one buffer: 2^8 pages of 4 KiB, 1 MiB.
const MDTS_RDMA: u8 = 8;

/// An answer: completion result and data.
pub type Answer = Result<(u64, Vec<u8>), Status>;

/// What a controller keeps between commands.
#[derive(Debug, Default)]
pub struct Registers {
    config: Config,
}

/// Answers one command of an admin queue, or a fabrics command of any queue; `None` for one that
/// waits for an event that never comes.
pub fn answer(registers: &mut Registers, disguise: &Disguise, sqe: &Sqe) -> Option<Answer> {
    if let Some(kind) = sqe.fabrics_type() {
        return Some(fabrics(registers, sqe, kind));
    }
    Some(match sqe.admin_opcode() {
        AdminOpcode::IDENTIFY => identify(disguise, sqe),
        AdminOpcode::SET_FEATURES => set_features(sqe),
        AdminOpcode::GET_LOG_PAGE => log(disguise, sqe),
        AdminOpcode::KEEP_ALIVE => Ok((0, Vec::new())),
        AdminOpcode::ASYNC_EVENT_REQUEST => return None,
        _ => Err(Status::INVALID_OPCODE),
    })
}

fn fabrics(registers: &mut Registers, sqe: &Sqe, kind: FabricsType) -> Answer {
    let invalid = |_| Status::INVALID_FIELD;
    match kind {
        FabricsType::CONNECT => {
            ConnectCommand::from_sqe(sqe).map_err(invalid)?;
            let response = ConnectResponse {
                cntlid: CNTLID,
                authreq: 0,
            };
            Ok((u64::from(response.encode()), Vec::new()))
        }
        FabricsType::PROPERTY_GET => {
            let get = PropertyGet::from_sqe(sqe).map_err(invalid)?;
            property(registers, get.offset.get()).map(|value| (value, Vec::new()))
        }
        FabricsType::PROPERTY_SET => {
            let set = PropertySet::from_sqe(sqe).map_err(invalid)?;
            if set.offset.get() == offset::CC {
                registers.config = Config(set.value.get() as u32);
            }
            Ok((0, Vec::new()))
        }
        FabricsType::DISCONNECT => Ok((0, Vec::new())),
        _ => Err(Status::INVALID_OPCODE),
    }
}

fn property(registers: &Registers, at: u32) -> Result<u64, Status> {
    let mqes = u64::from(QUEUE_ENTRIES - 1);
    match at {
        offset::CAP => {
            let cap = Cap::default().with_mqes(mqes).with_cqr(1).with_css(1);
            Ok(cap.with_timeout_500ms(10).0)
        }
        offset::VS => Ok(u64::from(Version::V1_4.0)),
        offset::CC => Ok(u64::from(registers.config.0)),
        offset::CSTS => {
            let down = u32::from(registers.config.shn() != 0) * 2;
            let status = ControllerStatus::default().with_rdy(registers.config.en());
            Ok(u64::from(status.with_shst(down).0))
        }
        _ => Err(Status::INVALID_FIELD),
    }
}

fn identify(disguise: &Disguise, sqe: &Sqe) -> Answer {
    let bytes = match Identify::decode(sqe).map(|identify| identify.cns) {
        Ok(Cns::CONTROLLER) => controller(disguise).as_wire().to_vec(),
        Ok(Cns::NAMESPACE) if sqe.nsid.get() == 1 => namespace(disguise).as_wire().to_vec(),
        Ok(Cns::NAMESPACE) => vec![0; IDENTIFY_BYTES],
        Ok(Cns::ACTIVE_NAMESPACES) => {
            let mut list = vec![0; IDENTIFY_BYTES];
            list[0] = 1;
            list
        }
        _ => return Err(Status::INVALID_FIELD),
    };
    Ok((0, bytes))
}

fn controller(disguise: &Disguise) -> IdentifyController {
    let (mdts, descriptors) = match disguise.protocol {
        Protocol::Rdma => (MDTS_RDMA, sgls::KEYED),
        Protocol::Tcp | Protocol::Iscsi => (MDTS, sgls::TRANSPORT),
    };
    IdentifyController {
        sn: Ascii::new("0"),
        mn: Ascii::new("Null target, keeps nothing"),
        fr: Ascii::new(env!("CARGO_PKG_VERSION")),
        mdts,
        cntlid: U16::new(CNTLID),
        ver: U32::new(Version::V1_4.0),
        cntrltype: cntrltype::IO,
        sqes: 0x66,
        cqes: 0x44,
        maxcmd: U16::new(QUEUE_ENTRIES),
        nn: U32::new(1),
        sgls: U32::new(sgls::SUPPORTED | sgls::OFFSET_ADDRESS | descriptors),
        subnqn: NqnField::new(NQN, "SUBNQN").unwrap_or_default(),
        ioccsz: U32::new((Sqe::SIZE as u32 + disguise.capsule_bytes) / 16),
        iorcsz: U32::new(1),
        msdbd: 1,
        ..IdentifyController::zeroed()
    }
}

fn namespace(disguise: &Disguise) -> IdentifyNamespace {
    let mut namespace = IdentifyNamespace {
        nsze: U64::new(disguise.blocks),
        ncap: U64::new(disguise.blocks),
        nuse: U64::new(disguise.blocks),
        ..IdentifyNamespace::zeroed()
    };
    namespace.lbaf[0] = LbaFormat::new(disguise.block_bytes.ilog2() as u8);
    namespace
}

/// Grants as many queues as were asked for.
fn set_features(sqe: &Sqe) -> Answer {
    match SetFeatures::decode(sqe) {
        Ok(set) if set.fid == FeatureId::NUMBER_OF_QUEUES => Ok((u64::from(set.cdw11), Vec::new())),
        Ok(set) if set.fid == FeatureId::ASYNC_EVENT_CONFIG => Ok((0, Vec::new())),
        _ => Err(Status::INVALID_FIELD),
    }
}

/// The discovery log, whatever name the host connected to.
fn log(disguise: &Disguise, sqe: &Sqe) -> Answer {
    let get = GetLogPage::decode(sqe).map_err(|_| Status::INVALID_FIELD)?;
    if get.lid != LogId::DISCOVERY {
        return Err(Status::INVALID_LOG_PAGE);
    }
    let address = disguise.address;
    let entry = DiscoveryEntry {
        trtype: match disguise.protocol {
            Protocol::Rdma => TransportType::RDMA,
            Protocol::Tcp | Protocol::Iscsi => TransportType::TCP,
        },
        adrfam: match address.ip() {
            IpAddr::V4(_) => AddressFamily::IPV4,
            IpAddr::V6(_) => AddressFamily::IPV6,
        },
        subtype: SubsystemType::NVM,
        cntlid: U16::new(wire::fabrics::discovery::CNTLID_DYNAMIC),
        asqsz: U16::new(32),
        trsvcid: Ascii::new(&address.port().to_string()),
        subnqn: NqnField::new(NQN, "SUBNQN").unwrap_or_default(),
        traddr: Ascii::new(&address.ip().to_string()),
        ..DiscoveryEntry::zeroed()
    };
    let mut page = DiscoveryHeader::new(1, 1).as_wire().to_vec();
    page.extend(entry.as_wire());
    let start = (get.lpo as usize).min(page.len());
    let mut bytes = page.split_off(start);
    bytes.resize(get.len_bytes().min(1 << 20) as usize, 0);
    Ok((0, bytes))
}
