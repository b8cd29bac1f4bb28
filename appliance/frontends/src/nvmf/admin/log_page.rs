//! Get Log Page. Source: base 2.0 section 5.16; discovery: section 5.16.1.23.

use std::rc::Rc;

use volume::OpKind;
use wire::nvme::command::GetLogPage;
use wire::nvme::identify::{Csi, NsidList};
use wire::nvme::log::{
    CommandsEffectsLog, ErrorEntry, FirmwareSlotLog, LogId, SmartLog, SupportedLogPages,
    critical_warning, effects, log_page_support,
};
use wire::nvme::{AdminOpcode, NSID_ALL, NvmOpcode, Sqe, Status};
use wire::text::Ascii;
use zerocopy::little_endian::U128;

use super::identify::FIRMWARE;
use crate::nvmf::controller::{Controller, Service};
use crate::nvmf::discovery;
use crate::nvmf::error_log;
use crate::nvmf::events::Event;
use crate::nvmf::io::NSID;
use crate::nvmf::plan::{Length, Transfer, to_host};
use crate::nvmf::subsystem::Subsystem;
use crate::nvmf::transport::Transport;

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr();
const INVALID_LOG: Status = Status::INVALID_LOG_PAGE.with_dnr();

pub(super) fn plan(sqe: &Sqe, max_io_bytes: u32, transport: Transport) -> Result<Transfer, Status> {
    let fields = GetLogPage::decode(sqe).map_err(|_| INVALID_FIELD)?;
    if fields.len_bytes() > u64::from(max_io_bytes) || !fields.lpo.is_multiple_of(4) {
        return Err(INVALID_FIELD);
    }
    to_host(sqe, fields.len_bytes(), Length::AtLeast, transport)
}

pub(super) fn execute(controller: &Rc<Controller>, sqe: &Sqe) -> Result<Vec<u8>, Status> {
    let fields = GetLogPage::decode(sqe).map_err(|_| INVALID_FIELD)?;
    if fields.offset_is_index || fields.csi != Csi::NVM {
        return Err(INVALID_FIELD);
    }
    if fields.lid == LogId::SUPPORTED_LOG_PAGES {
        return window(
            &fields,
            supported_pages(controller.is_discovery()).as_wire(),
        );
    }
    match &controller.service {
        Service::Storage(subsystem) => storage_page(controller, subsystem, &fields, sqe),
        Service::Discovery { directory, reach } => match fields.lid {
            LogId::DISCOVERY => {
                let log = discovery::render(directory, &controller.host.nqn, *reach);
                let page = window(&fields, &log)?;
                read_clears(controller, &fields, Event::DiscoveryChanged);
                Ok(page)
            }
            LogId::ERROR => window(&fields, &error_page(controller)),
            _ => Err(INVALID_LOG),
        },
    }
}

fn storage_page(
    controller: &Controller,
    subsystem: &Subsystem,
    fields: &GetLogPage,
    sqe: &Sqe,
) -> Result<Vec<u8>, Status> {
    match fields.lid {
        LogId::ERROR => window(fields, &error_page(controller)),
        LogId::SMART => {
            // SMART per namespace is not announced (LPA bit 0).
            match sqe.nsid.get() {
                0 | NSID_ALL => window(fields, smart_page(controller, subsystem).as_wire()),
                _ => Err(INVALID_FIELD),
            }
        }
        LogId::FIRMWARE_SLOT => window(fields, firmware_page().as_wire()),
        LogId::CHANGED_NAMESPACES => {
            let changed = controller.namespace_changed.get();
            let list = NsidList::new(changed.then_some(NSID));
            let page = window(fields, list.as_wire())?;
            if !fields.rae {
                controller.namespace_changed.set(false);
            }
            read_clears(controller, fields, Event::NamespaceChanged);
            Ok(page)
        }
        LogId::RESERVATION => notification(controller, fields),
        LogId::COMMANDS_EFFECTS => window(fields, effects_page().as_wire()),
        _ => Err(INVALID_LOG),
    }
}

/// The part of `log` that was asked for; zeroes after its end.
fn window(fields: &GetLogPage, log: &[u8]) -> Result<Vec<u8>, Status> {
    let start = usize::try_from(fields.lpo).map_err(|_| INVALID_FIELD)?;
    let rest = log.get(start..).ok_or(INVALID_FIELD)?;
    let len_bytes = usize::try_from(fields.len_bytes()).map_err(|_| INVALID_FIELD)?;
    let mut page = vec![0; len_bytes];
    for (to, from) in page.iter_mut().zip(rest) {
        *to = *from;
    }
    Ok(page)
}

fn read_clears(controller: &Controller, fields: &GetLogPage, event: Event) {
    if !fields.rae {
        controller.events.borrow_mut().log_read(event);
    }
}

/// The oldest page; reading it makes room for the next one, which is an event of its own.
fn notification(controller: &Controller, fields: &GetLogPage) -> Result<Vec<u8>, Status> {
    let page = controller.notices.borrow().page();
    let page = window(fields, page.as_wire())?;
    read_clears(controller, fields, Event::ReservationLog);
    if !fields.rae && controller.notices.borrow_mut().was_read() {
        controller.raise(Event::ReservationLog);
    }
    Ok(page)
}

fn error_page(controller: &Controller) -> Vec<u8> {
    let log = controller.error_log.borrow();
    let mut page = Vec::with_capacity(error_log::ENTRIES * ErrorEntry::SIZE);
    for index in 0..error_log::ENTRIES {
        match log.get(index) {
            Some(entry) => page.extend_from_slice(entry.as_wire()),
            None => page.extend_from_slice(ErrorEntry::zeroed().as_wire()),
        }
    }
    page
}

fn smart_page(controller: &Controller, subsystem: &Subsystem) -> SmartLog {
    let mut page = SmartLog {
        available_spare: 100,
        power_on_hours: U128::new(u128::from(subsystem.since.elapsed().as_secs() / 3600)),
        error_log_entries: U128::new(u128::from(controller.error_log.borrow().count())),
        ..SmartLog::zeroed()
    };
    let Some(volume) = subsystem.volume() else {
        return page;
    };
    let metrics = volume.metrics();
    let sum = |kinds: &[OpKind], value: fn(&volume::OpSnapshot) -> u64| {
        let chosen = metrics.ops.iter().filter(|op| kinds.contains(&op.kind));
        U128::new(chosen.map(|op| u128::from(value(op))).sum())
    };
    let units = |bytes: U128| U128::new(bytes.get().div_ceil(512_000));
    let reads = [OpKind::Read, OpKind::Compare, OpKind::Verify];
    let writes = [OpKind::Write, OpKind::CompareAndWrite];
    page.data_units_read = units(sum(&reads, |op| op.bytes));
    page.data_units_written = units(sum(&writes, |op| op.bytes));
    page.host_read_commands = sum(&reads, |op| op.count);
    page.host_write_commands = sum(&writes, |op| op.count);
    page.media_errors = U128::new(u128::from(metrics.corrupt_reads));
    if matches!(volume.state(), volume::VolumeState::Failed { .. }) {
        page.critical_warning = critical_warning::READ_ONLY | critical_warning::RELIABILITY;
    }
    page
}

fn firmware_page() -> FirmwareSlotLog {
    let mut page = FirmwareSlotLog {
        afi: 1,
        ..FirmwareSlotLog::zeroed()
    };
    page.revisions[0] = Ascii::new(FIRMWARE);
    page
}

const STORAGE_PAGES: [LogId; 7] = [
    LogId::SUPPORTED_LOG_PAGES,
    LogId::ERROR,
    LogId::SMART,
    LogId::FIRMWARE_SLOT,
    LogId::CHANGED_NAMESPACES,
    LogId::COMMANDS_EFFECTS,
    LogId::RESERVATION,
];
const DISCOVERY_PAGES: [LogId; 3] = [LogId::SUPPORTED_LOG_PAGES, LogId::ERROR, LogId::DISCOVERY];

fn supported_pages(discovery: bool) -> SupportedLogPages {
    let mut page = SupportedLogPages::zeroed();
    let pages: &[LogId] = if discovery {
        &DISCOVERY_PAGES
    } else {
        &STORAGE_PAGES
    };
    for lid in pages {
        page.pages.set(lid.0, log_page_support::LSUPP);
    }
    page
}

fn effects_page() -> CommandsEffectsLog {
    let mut page = CommandsEffectsLog::zeroed();
    for opcode in 0..=u8::MAX {
        if super::is_offered(AdminOpcode(opcode), false) {
            page.admin.set(opcode, effects::CSUPP);
        }
    }
    let harmless = [
        NvmOpcode::READ,
        NvmOpcode::COMPARE,
        NvmOpcode::VERIFY,
        NvmOpcode::FLUSH,
        NvmOpcode::RESERVATION_REGISTER,
        NvmOpcode::RESERVATION_ACQUIRE,
        NvmOpcode::RESERVATION_RELEASE,
        NvmOpcode::RESERVATION_REPORT,
    ];
    for opcode in harmless {
        page.io.set(opcode.0, effects::CSUPP);
    }
    let writes = [
        NvmOpcode::WRITE,
        NvmOpcode::WRITE_ZEROES,
        NvmOpcode::DATASET_MANAGEMENT,
    ];
    for opcode in writes {
        page.io.set(opcode.0, effects::CSUPP | effects::LBCC);
    }
    page
}
