//! Identify. Every field says what is true; what is not supported is zero.
//!
//! Source: base 2.0 section 5.17.2; NVM command set 1.0 section 4.1.5.

use std::rc::Rc;

use volume::VolumeInfo;
use wire::nvme::command::Identify;
use wire::nvme::feature::async_event;
use wire::nvme::identify::{
    Cns, Csi, DescriptorWriter, IDENTIFY_BYTES, IdentifyController, IdentifyControllerNvm,
    IdentifyNamespace, IdentifyNamespaceIndependent, IdentifyNamespaceNvm, IoCommandSets,
    LbaFormat, NsDescriptor, NsidList, cntrltype, ctratt, dlfeat, nsfeat, ofcs, oncs, vwc,
};
use wire::nvme::reservation::rescap;
use wire::nvme::{NSID_ALL, Sqe, Status};
use wire::text::{Ascii, DISCOVERY_NQN, NqnField};
use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::nvmf::controller::{Controller, ControllerLimits};
use crate::nvmf::error_log;
use crate::nvmf::events::MAX_WAITING;
use crate::nvmf::io::NSID;
use crate::nvmf::plan::{Length, Transfer, to_host};
use crate::nvmf::registers::VERSION;
use crate::nvmf::subsystem::{MODEL, Subsystem};
use crate::nvmf::transport::Transport;

/// Firmware revision: the version of this crate.
pub(super) const FIRMWARE: &str = env!("CARGO_PKG_VERSION");
/// Keep alive granularity in 100 ms.
const KAS: u16 = 1;
/// Abort commands at the same time, 0-based. They finish at once, so the limit is a courtesy.
const ACL: u8 = 3;
/// The engine's page: writes of whole pages need no read before them.
const PAGE_BYTES: u32 = 4096;
/// The engine's cluster: the largest unit that is written without the journal.
const CLUSTER_BYTES: u32 = 128 << 10;
/// Smallest memory page (CAP.MPSMIN), the unit of MDTS.
const MEMORY_PAGE_BYTES: u32 = 4096;

/// Every type of reservation, and through power loss.
const RESCAP: u8 = rescap::PERSISTS
    | rescap::WRITE_EXCLUSIVE
    | rescap::EXCLUSIVE_ACCESS
    | rescap::WRITE_EXCLUSIVE_REGISTRANTS_ONLY
    | rescap::EXCLUSIVE_ACCESS_REGISTRANTS_ONLY
    | rescap::WRITE_EXCLUSIVE_ALL_REGISTRANTS
    | rescap::EXCLUSIVE_ACCESS_ALL_REGISTRANTS
    | rescap::IGNORE_KEY_OF_1_3;

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr();
const INVALID_NAMESPACE: Status = Status::INVALID_NAMESPACE.with_dnr();

pub(super) fn plan(sqe: &Sqe, transport: Transport) -> Result<Transfer, Status> {
    to_host(sqe, IDENTIFY_BYTES as u64, Length::AtLeast, transport)
}

pub(super) fn execute(controller: &Rc<Controller>, sqe: &Sqe) -> Result<Vec<u8>, Status> {
    let fields = Identify::decode(sqe).map_err(|_| INVALID_FIELD)?;
    let Some(subsystem) = controller.subsystem() else {
        return match fields.cns {
            Cns::CONTROLLER => Ok(discovery_controller(controller).as_wire().to_vec()),
            _ => Err(INVALID_FIELD),
        };
    };
    let nsid = sqe.nsid.get();
    match fields.cns {
        Cns::CONTROLLER => Ok(storage_controller(controller, subsystem).as_wire().to_vec()),
        Cns::NAMESPACE => namespace(subsystem, nsid),
        Cns::NAMESPACE_DESCRIPTORS => descriptors(live(subsystem, nsid)?),
        Cns::ACTIVE_NAMESPACES | Cns::ALLOCATED_NAMESPACES => namespace_list(subsystem, nsid),
        Cns::ALLOCATED_NAMESPACE => namespace(subsystem, nsid),
        Cns::INDEPENDENT_NAMESPACE => independent(live(subsystem, nsid)?),
        Cns::CSI_NAMESPACE | Cns::CSI_CONTROLLER | Cns::CSI_ACTIVE_NAMESPACES => {
            of_command_set(controller, subsystem, &fields, nsid)
        }
        Cns::CONTROLLERS => Ok(controller_list(&subsystem.cntlids(), fields.cntid)),
        Cns::ATTACHED_CONTROLLERS => {
            live(subsystem, nsid)?;
            Ok(controller_list(&subsystem.cntlids(), fields.cntid))
        }
        Cns::IO_COMMAND_SETS if [u16::MAX, controller.cntlid].contains(&fields.cntid) => {
            Ok(command_sets())
        }
        _ => Err(INVALID_FIELD),
    }
}

fn of_command_set(
    controller: &Controller,
    subsystem: &Subsystem,
    fields: &Identify,
    nsid: u32,
) -> Result<Vec<u8>, Status> {
    if fields.csi != Csi::NVM {
        return Err(INVALID_FIELD);
    }
    match fields.cns {
        Cns::CSI_CONTROLLER => Ok(controller_limits(controller).as_wire().to_vec()),
        Cns::CSI_ACTIVE_NAMESPACES => namespace_list(subsystem, nsid),
        _ => {
            live(subsystem, nsid)?;
            Ok(IdentifyNamespaceNvm::zeroed().as_wire().to_vec())
        }
    }
}

/// The namespace that `nsid` names, if it is there.
fn live(subsystem: &Subsystem, nsid: u32) -> Result<&VolumeInfo, Status> {
    if nsid == NSID && subsystem.is_live() {
        Ok(&subsystem.info)
    } else {
        Err(INVALID_NAMESPACE)
    }
}

/// What both kinds of controller share.
fn common(controller: &Controller) -> IdentifyController {
    let limits = &controller.limits;
    IdentifyController {
        fr: Ascii::new(FIRMWARE),
        rab: 0,
        mdts: log2_pages(limits.max_io_bytes),
        cntlid: U16::new(controller.cntlid),
        ver: U32::new(VERSION.0),
        aerl: (MAX_WAITING - 1) as u8,
        // Slot 1 is read-only, one slot: firmware comes with the binary.
        frmw: 0b011,
        elpe: (error_log::ENTRIES - 1) as u8,
        kas: U16::new(KAS),
        maxcmd: U16::new(limits.entries),
        ..capsules(limits)
    }
}

/// What the transport decides: which descriptors a command may have, and how large capsules are.
/// In-capsule data follows the command at once, and one descriptor has all data of a command.
fn capsules(limits: &ControllerLimits) -> IdentifyController {
    IdentifyController {
        sgls: U32::new(limits.transport.sgls()),
        ioccsz: U32::new((64 + limits.in_capsule_bytes) / 16),
        iorcsz: U32::new(1),
        icdoff: U16::ZERO,
        msdbd: 1,
        ..IdentifyController::zeroed()
    }
}

fn storage_controller(controller: &Controller, subsystem: &Subsystem) -> IdentifyController {
    let cache = if subsystem.info.volatile_cache {
        vwc::PRESENT
    } else {
        0
    };
    IdentifyController {
        sn: Ascii(subsystem.info.serial),
        mn: Ascii::new(MODEL),
        // Several ports, several controllers.
        cmic: 0b11,
        oaes: U32::new(async_event::NAMESPACE_ATTRIBUTE),
        ctratt: U32::new(ctratt::HOST_ID_128 | ctratt::TRAFFIC_KEEP_ALIVE),
        cntrltype: cntrltype::IO,
        acl: ACL,
        // Effects log, extended data, supported log pages.
        lpa: 1 << 1 | 1 << 2 | 1 << 5,
        sqes: 0x66,
        cqes: 0x44,
        nn: U32::new(1),
        mnan: U32::new(1),
        oncs: U16::new(
            oncs::COMPARE
                | oncs::DATASET_MANAGEMENT
                | oncs::WRITE_ZEROES
                | oncs::RESERVATIONS
                | oncs::VERIFY,
        ),
        fuses: U16::new(1),
        vwc: cache | vwc::FLUSH_ALL_YES,
        // One block is never torn; more is not promised over power failure.
        awun: U16::ZERO,
        awupf: U16::ZERO,
        acwu: U16::new(page_blocks(&subsystem.info)),
        ofcs: U16::new(ofcs::DISCONNECT),
        subnqn: nqn_field(&subsystem.nqn),
        ..common(controller)
    }
}

fn discovery_controller(controller: &Controller) -> IdentifyController {
    IdentifyController {
        sn: Ascii::new("discovery"),
        mn: Ascii::new("Bedplate Discovery"),
        oaes: U32::new(async_event::DISCOVERY_LOG),
        ctratt: U32::new(ctratt::HOST_ID_128 | ctratt::TRAFFIC_KEEP_ALIVE),
        cntrltype: cntrltype::DISCOVERY,
        lpa: 1 << 2 | 1 << 5,
        subnqn: nqn_field(DISCOVERY_NQN),
        ..common(controller)
    }
}

fn namespace(subsystem: &Subsystem, nsid: u32) -> Result<Vec<u8>, Status> {
    // The broadcast value is for controllers with Namespace Management, which this is not.
    if nsid != NSID {
        return Err(INVALID_NAMESPACE);
    }
    // An inactive namespace is all zeroes.
    let Ok(info) = live(subsystem, nsid) else {
        return Ok(vec![0; IDENTIFY_BYTES]);
    };
    Ok(namespace_data(info).as_wire().to_vec())
}

fn namespace_data(info: &VolumeInfo) -> IdentifyNamespace {
    let blocks = U64::new(info.block_count);
    let page = U16::new(page_blocks(info));
    let mut data = IdentifyNamespace {
        nsze: blocks,
        ncap: blocks,
        nuse: blocks,
        nsfeat: nsfeat::OPTIMAL_IO | nsfeat::UID_REUSE_NEVER | nsfeat::NAMESPACE_ATOMICS,
        nmic: 1,
        rescap: RESCAP,
        dlfeat: dlfeat::READ_ZEROES | dlfeat::WRITE_ZEROES_DEALLOCATE,
        nacwu: page,
        nvmcap: U128::new(u128::from(info.len_bytes())),
        npwg: page,
        npwa: page,
        npdg: page,
        npda: page,
        nows: U16::new(zero_based(CLUSTER_BYTES / info.block_bytes)),
        nguid: info.nguid,
        ..IdentifyNamespace::zeroed()
    };
    data.lbaf[0] = LbaFormat::new(info.block_bytes.trailing_zeros() as u8);
    data
}

fn independent(_info: &VolumeInfo) -> Result<Vec<u8>, Status> {
    let data = IdentifyNamespaceIndependent {
        nsfeat: nsfeat::UID_REUSE_NEVER,
        nmic: 1,
        rescap: RESCAP,
        nstat: 1,
        ..IdentifyNamespaceIndependent::zeroed()
    };
    Ok(data.as_wire().to_vec())
}

fn descriptors(info: &VolumeInfo) -> Result<Vec<u8>, Status> {
    let mut writer = DescriptorWriter::new();
    for descriptor in [
        NsDescriptor::Uuid(info.uuid),
        NsDescriptor::Nguid(info.nguid),
        NsDescriptor::Csi(Csi::NVM),
    ] {
        writer
            .push(&descriptor)
            .map_err(|_| Status::INTERNAL_ERROR)?;
    }
    Ok(writer.as_wire().to_vec())
}

/// Namespaces above `after`. The two largest values are not allowed as a start.
fn namespace_list(subsystem: &Subsystem, after: u32) -> Result<Vec<u8>, Status> {
    if after >= NSID_ALL - 1 {
        return Err(INVALID_NAMESPACE);
    }
    let there = subsystem.is_live() && after < NSID;
    Ok(NsidList::new(there.then_some(NSID)).as_wire().to_vec())
}

/// Controllers from `from` on: a count, then identifiers. Source: base 2.0 section 5.17.2.
fn controller_list(cntlids: &[u16], from: u16) -> Vec<u8> {
    let chosen: Vec<u16> = cntlids
        .iter()
        .copied()
        .filter(|id| *id >= from)
        .take(IDENTIFY_BYTES / 2 - 1)
        .collect();
    let mut bytes = vec![0; IDENTIFY_BYTES];
    let words = std::iter::once(chosen.len() as u16).chain(chosen);
    for (place, word) in bytes.chunks_exact_mut(2).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// One combination: the NVM command set.
fn command_sets() -> Vec<u8> {
    let mut sets = IoCommandSets::zeroed();
    sets.vectors.0[0] = U64::new(1);
    sets.as_wire().to_vec()
}

fn controller_limits(controller: &Controller) -> IdentifyControllerNvm {
    IdentifyControllerNvm {
        // Verify reads as much as a Read may; Write Zeroes and deallocation have no limit but
        // that of their fields.
        vsl: log2_pages(controller.limits.max_io_bytes),
        ..IdentifyControllerNvm::zeroed()
    }
}

fn nqn_field(nqn: &str) -> NqnField {
    NqnField::new(nqn, "SUBNQN").unwrap_or_default()
}

fn log2_pages(len_bytes: u32) -> u8 {
    (len_bytes / MEMORY_PAGE_BYTES).max(1).trailing_zeros() as u8
}

/// Blocks of a page, 0-based.
fn page_blocks(info: &VolumeInfo) -> u16 {
    zero_based(PAGE_BYTES / info.block_bytes)
}

fn zero_based(count: u32) -> u16 {
    u16::try_from(count.saturating_sub(1)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use wire::nvme::identify::sgls;

    use super::*;
    use crate::nvmf::transport::Transport;
    use crate::options::{RdmaOptions, TargetOptions};

    #[test]
    fn capsules_are_announced_as_the_transport_takes_them() {
        let options = TargetOptions {
            in_capsule_bytes: 8192,
            max_queue_entries: 256,
            rdma: RdmaOptions {
                in_capsule_bytes: 4096,
                max_queue_entries: 128,
                ..RdmaOptions::default()
            },
            ..TargetOptions::default()
        };
        let tcp = ControllerLimits::of(&options, Transport::Tcp);
        let rdma = ControllerLimits::of(&options, Transport::Rdma);
        assert_eq!((tcp.entries, rdma.entries), (256, 128));
        let (tcp, rdma) = (capsules(&tcp), capsules(&rdma));
        assert_eq!(tcp.ioccsz.get() * 16, 64 + 8192);
        assert_eq!(rdma.ioccsz.get() * 16, 64 + 4096);
        for data in [&tcp, &rdma] {
            assert_eq!(
                (data.iorcsz.get(), data.icdoff.get(), data.msdbd),
                (1, 0, 1)
            );
            let alignment = data.sgls.get() & 0b11;
            assert_eq!(alignment, 0b01, "no alignment is asked for");
        }
        let has = |data: &IdentifyController, bit: u32| data.sgls.get() & bit != 0;
        assert!(has(&rdma, sgls::KEYED) && !has(&rdma, sgls::TRANSPORT));
        assert!(has(&tcp, sgls::TRANSPORT) && !has(&tcp, sgls::KEYED));
        assert!(has(&rdma, sgls::OFFSET_ADDRESS) && has(&tcp, sgls::OFFSET_ADDRESS));
    }
}
