//! Private data of the connection manager: golden rows, refusals, round trips.

use proptest::prelude::*;
use wire::fabrics::discovery::DiscoveryEntry;
use wire::rdma::{CmAccept, CmReject, CmRequest, CmStatus, PrivateDataError, tsas};

use crate::golden::Row;
use crate::row;
use crate::spec_bytes;

pub fn rows() -> Vec<Row> {
    vec![
        row!("rdma_cm_request", CmRequest, {
            0 le16 (recfmt) = 0;
            2 le16 (qid) = 0x0102;
            4 le16 (hrqsize) = 0x0080;
            6 le16 (hsqsize) = 0x007f;
            8 le16 (cntlid) = 0x0304;
        }),
        row!("rdma_cm_accept", CmAccept, {
            0 le16 (recfmt) = 0;
            2 le16 (crqsize) = 0x0080;
        }),
        row!("rdma_cm_reject", CmReject, {
            0 le16 (recfmt) = 0;
            2 le16 (sts) = 9;
        }),
        row!("discovery_entry_rdma", DiscoveryEntry, {
            0 byte (trtype.0) = 1;
            1 byte (adrfam.0) = 2;
            2 byte (subtype.0) = 2;
            3 byte (treq) = 6;
            4 le16 (portid) = 2;
            6 le16 (cntlid) = 0xffff;
            8 le16 (asqsz) = 32;
            32 raw (trsvcid.0) = &spec_bytes::padded("4420", b' ');
            256 raw (subnqn.0) = &spec_bytes::padded("nqn.2026-11.io.bedplate:demo", 0);
            512 raw (traddr.0) = &spec_bytes::padded("2001:db8::1", b' ');
            768 byte (tsas.0[0]) = 1;
            769 byte (tsas.0[1]) = 4;
            770 byte (tsas.0[2]) = 1;
        }),
    ]
}

#[test]
fn a_listener_with_an_ip_address_has_no_partition_key() {
    let bytes = tsas::ip(tsas::PRTYPE_ROCE_V2).0;
    assert_eq!(bytes[..3], [1, 4, 1]);
    assert!(bytes[3..].iter().all(|byte| *byte == 0));
    assert_eq!(tsas::ip(tsas::PRTYPE_NOT_SPECIFIED).0[1], 1);
}

/// A request as it leaves a Linux host for an admin queue.
const ADMIN: [u8; 8] = [0, 0, 0, 0, 32, 0, 31, 0];

fn padded(fields: &[u8], len_bytes: usize) -> Vec<u8> {
    let mut bytes = fields.to_vec();
    bytes.resize(len_bytes, 0);
    bytes
}

#[test]
fn the_send_queue_is_zero_based_and_the_receive_queue_is_a_count() {
    let bytes = padded(&ADMIN, 32);
    let request = CmRequest::check(&bytes).expect("an admin queue");
    assert_eq!(request.send_entries(), 32);
    assert_eq!(request.receive_entries(), 32);
    assert_eq!(CmRequest::new(0, 32, 7).as_wire(), bytes);
    let largest = CmRequest {
        hsqsize: u16::MAX.into(),
        ..*request
    };
    assert_eq!(largest.send_entries(), 65_536);
}

#[test]
fn what_the_connection_manager_adds_is_ignored() {
    let mut bytes = padded(&ADMIN, 56);
    bytes[32..].fill(0xff);
    let request = CmRequest::check(&bytes).expect("longer than sent");
    assert_eq!(request.as_wire(), &bytes[..32]);
    assert!(CmAccept::check(&padded(&[0, 0, 128, 0], 196)).is_ok());
    assert!(CmReject::check(&padded(&[0, 0, 6, 0], 148)).is_ok());
}

#[test]
fn each_way_to_be_wrong_has_its_status() {
    let changed = |offset: usize, value: u8| {
        let mut bytes = padded(&ADMIN, 32);
        bytes[offset] = value;
        bytes
    };
    let table = [
        (Vec::new(), CmStatus::INVALID_LENGTH),
        (padded(&ADMIN, 31), CmStatus::INVALID_LENGTH),
        (changed(0, 1), CmStatus::INVALID_RECFMT),
        (changed(1, 1), CmStatus::INVALID_RECFMT),
        (changed(4, 0), CmStatus::INVALID_HRQSIZE),
        (changed(6, 0), CmStatus::INVALID_HSQSIZE),
        // A host that sent no private data at all: the manager's field is there, all zero.
        (vec![0; 56], CmStatus::INVALID_HSQSIZE),
    ];
    for (bytes, status) in table {
        let error = CmRequest::check(&bytes).expect_err("malformed");
        assert_eq!(error.status(), status, "{bytes:02x?}");
    }
}

#[test]
fn answers_of_another_format_or_cut_short_are_refused_by_name() {
    let format = |what| PrivateDataError::RecordFormat { what, recfmt: 1 };
    let accept = padded(&[1, 0, 128, 0], 32);
    assert_eq!(CmAccept::check(&accept), Err(format("RDMA_CM_ACCEPT")));
    assert_eq!(CmReject::check(&accept), Err(format("RDMA_CM_REJECT")));
    let short = CmReject::check(&[0, 0, 6]).expect_err("three bytes");
    assert_eq!(short.status(), CmStatus::INVALID_LENGTH);
    assert!(short.to_string().contains("got 3"), "{short}");
    assert!(CmAccept::check(&accept[..31]).is_err());
}

#[test]
fn a_status_that_is_not_known_is_kept() {
    let bytes = [0, 0, 0xfe, 0x01];
    let status = CmReject::check(&bytes).expect("four bytes").status();
    assert_eq!((status, status.name()), (CmStatus(0x01fe), None));
    let known = (1..=9).map(|sts| CmStatus(sts).name());
    assert!(known.flatten().count() == 9, "every status has its name");
}

#[test]
fn an_admin_queue_names_no_controller() {
    let mut request = CmRequest::new(0, 32, 0);
    request.cntlid = 5.into();
    assert_eq!(request.controller(), None);
    assert_eq!(CmRequest::new(1, 32, 5).controller(), Some(5));
    assert_eq!(CmRequest::new(1, 32, 0).controller(), None, "an older host");
}

proptest! {
    #[test]
    fn what_is_built_reads_the_same(qid: u16, entries in 2u16.., cntlid: u16, sts: u16) {
        let request = CmRequest::new(qid, entries, cntlid);
        let read = CmRequest::check(request.as_wire()).expect("built by us");
        prop_assert_eq!(read, &request);
        prop_assert_eq!(read.qid.get(), qid);
        prop_assert_eq!(read.send_entries(), u32::from(entries));
        prop_assert_eq!(read.receive_entries(), u32::from(entries));
        let named = (qid != 0 && cntlid != 0).then_some(cntlid);
        prop_assert_eq!(read.controller(), named);

        let accept = CmAccept::new(entries);
        prop_assert_eq!(CmAccept::check(accept.as_wire()), Ok(&accept));
        prop_assert_eq!(accept.crqsize.get(), entries);
        let reject = CmReject::new(CmStatus(sts));
        let read = CmReject::check(reject.as_wire()).expect("built by us");
        prop_assert_eq!(read.status(), CmStatus(sts));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(request) = CmRequest::check(&bytes) {
            prop_assert_eq!(request.as_wire(), &bytes[..CmRequest::SIZE]);
            prop_assert!(request.send_entries() >= 2 && request.receive_entries() >= 1);
        }
        let _ = CmAccept::check(&bytes);
        let _ = CmReject::check(&bytes);
    }
}
