//! INQUIRY: standard data and vital product data pages. Every field says what is true.
//!
//! Source: SPC-4 sections 6.6 and 7.8; SBC-3 section 6.6.

use wire::scsi::cdb::Inquiry;
use wire::scsi::data::inquiry::{
    ABSENT, Association, BlockLimits, CodeSet, Designator, DesignatorType, PRESENT, Standard,
    VitalPage, begin_page, end_page,
};
use wire::scsi::{OpCode, Sense, Writer};

use super::identity::{self, PRODUCT, VENDOR};
use super::plan::to_host;
use super::{Nexus, Transfer, limits, table};

/// Product revision: the version of this crate.
const REVISION: &str = env!("CARGO_PKG_VERSION");
/// Pages, in order.
const PAGES: [VitalPage; 8] = [
    VitalPage::SUPPORTED,
    VitalPage::SERIAL_NUMBER,
    VitalPage::IDENTIFICATION,
    VitalPage::EXTENDED,
    VitalPage::THIRD_PARTY_COPY,
    VitalPage::BLOCK_LIMITS,
    VitalPage::BLOCK_DEVICE,
    VitalPage::PROVISIONING,
];

pub(super) fn plan(fields: &Inquiry, is_absent: bool) -> Result<Transfer, Sense> {
    let page = VitalPage(fields.page);
    let is_known = match (fields.vital, is_absent) {
        (false, _) => fields.page == 0,
        (true, false) => PAGES.contains(&page),
        (true, true) => page == VitalPage::SUPPORTED,
    };
    if !is_known {
        return Err(Sense::invalid_cdb(2, None));
    }
    Ok(to_host(fields.allocation_bytes.into()))
}

pub(super) fn build(nexus: &Nexus, fields: &Inquiry, is_absent: bool, out: &mut Writer<'_>) {
    let peripheral = if is_absent { ABSENT } else { PRESENT };
    if !fields.vital {
        let standard = Standard {
            peripheral,
            vendor: VENDOR,
            product: PRODUCT,
            revision: REVISION.as_bytes(),
        };
        return standard.write(out);
    }
    match VitalPage(fields.page) {
        VitalPage::SUPPORTED => supported(peripheral, is_absent, out),
        VitalPage::BLOCK_LIMITS => block_limits(nexus).write(peripheral, out),
        page => {
            begin_page(peripheral, page, out);
            match page {
                VitalPage::SERIAL_NUMBER => {
                    out.bytes(&nexus.unit().info().serial);
                }
                VitalPage::IDENTIFICATION => identification(nexus, out),
                VitalPage::EXTENDED => extended(nexus, out),
                VitalPage::THIRD_PARTY_COPY => third_party_copy(out),
                VitalPage::BLOCK_DEVICE => block_device(out),
                _ => provisioning(out),
            }
            end_page(out);
        }
    }
}

fn supported(peripheral: u8, is_absent: bool, out: &mut Writer<'_>) {
    begin_page(peripheral, VitalPage::SUPPORTED, out);
    let pages = if is_absent { &PAGES[..1] } else { &PAGES[..] };
    for page in pages {
        out.u8(page.0);
    }
    end_page(out);
}

/// What the unit, the port and the target are called. The designators of the unit come first:
/// there are hosts that take the first one.
fn identification(nexus: &Nexus, out: &mut Writer<'_>) {
    let info = nexus.unit().info();
    let names = nexus.names();
    let port = names.target_port.to_be_bytes();
    let number = [0, 0, port[0], port[1]];
    let binary = |association, kind, bytes| Designator {
        association,
        code_set: CodeSet::Binary,
        kind,
        bytes,
    };
    let (naa, t10) = (identity::naa(info), identity::t10(info));
    binary(Association::Unit, DesignatorType::NAA, &naa).write(out);
    binary(Association::Unit, DesignatorType::EUI_64, &info.nguid).write(out);
    let t10 = Designator {
        code_set: CodeSet::Ascii,
        ..binary(Association::Unit, DesignatorType::T10_VENDOR, &t10)
    };
    t10.write(out);
    for kind in [
        DesignatorType::RELATIVE_TARGET_PORT,
        DesignatorType::TARGET_PORT_GROUP,
    ] {
        binary(Association::Port, kind, &number).write(out);
    }
    let port_name = format!("{},t,0x{:04x}", names.target, names.target_port);
    scsi_name(Association::Port, &port_name, out);
    scsi_name(Association::Device, &names.target, out);
}

/// A SCSI name ends with a zero and fills a multiple of four bytes.
fn scsi_name(association: Association, name: &str, out: &mut Writer<'_>) {
    let mut bytes = [0; 252];
    let used = name.len().min(bytes.len() - 1);
    bytes[..used].copy_from_slice(&name.as_bytes()[..used]);
    let designator = Designator {
        association,
        code_set: CodeSet::Utf8,
        kind: DesignatorType::SCSI_NAME,
        bytes: &bytes[..(used + 1).next_multiple_of(4)],
    };
    designator.write(out);
}

/// Page 86h, SPC-4 section 7.8.7.
fn extended(nexus: &Nexus, out: &mut Writer<'_>) {
    let has_cache = nexus.unit().info().volatile_cache;
    // UASK_SUP: a sense key specific field comes with errors in parameters; SIMPSUP, ORDSUP and
    // HEADSUP: all task attributes; V_SUP: a volatile cache; LUICLR: I_T nexus loss clears.
    out.bytes(&[0, 0x07, has_cache.into(), 0x01]);
    out.zeros(9);
    out.u8(wire::scsi::sense::DESCRIPTOR_BYTES_MAX as u8);
    out.zeros(46);
}

/// Page 8Fh, SPC-4 section 7.8.17: which copy commands there are.
fn third_party_copy(out: &mut Writer<'_>) {
    let start = out.len();
    // Descriptor: supported commands, 0001h.
    out.u16(0x0001).u16(0).u8(0);
    for opcode in [OpCode::EXTENDED_COPY, OpCode::RECEIVE_COPY_RESULTS] {
        out.u8(opcode.0);
        let actions = table::of_opcode(opcode.0).filter_map(|row| row.action);
        out.u8(actions.clone().count() as u8);
        for action in actions {
            out.u8(action);
        }
    }
    let list = out.len() - start - 5;
    out.patch(start + 4, &[list as u8]);
    while !(out.len() - start).is_multiple_of(4) {
        out.u8(0);
    }
    let len = (out.len() - start - 4) as u16;
    out.patch(start + 2, &len.to_be_bytes());
}

fn block_limits(nexus: &Nexus) -> BlockLimits {
    let info = nexus.unit().info();
    BlockLimits {
        same_zero_refused: false,
        max_compare_and_write: limits::COMPARE_AND_WRITE_BLOCKS as u8,
        optimal_granularity: limits::page_blocks(info) as u16,
        max_transfer: limits::transfer_blocks(info),
        optimal_transfer: limits::optimal_blocks(info),
        max_prefetch: 0,
        max_unmap: u32::MAX,
        max_unmap_descriptors: limits::UNMAP_DESCRIPTORS as u32,
        unmap_granularity: limits::cluster_blocks(info),
        max_same: limits::SAME_BLOCKS,
        max_atomic: limits::atomic_blocks(info),
    }
}

/// Page B1h, SBC-3 section 6.6.2: it does not rotate; after an erase blocks read as zeros.
fn block_device(out: &mut Writer<'_>) {
    out.u16(1).bytes(&[0, 0x40]).zeros(56);
}

/// Page B2h, SBC-3 section 6.6.4: thin; UNMAP, WRITE SAME (10) and (16); unmapped blocks read as
/// zeros; no anchored blocks.
fn provisioning(out: &mut Writer<'_>) {
    out.bytes(&[0, 0xe4, 0x02, 0]);
}
