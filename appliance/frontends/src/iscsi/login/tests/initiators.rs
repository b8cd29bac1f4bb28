//! What initiators in use say, request by request.

use std::sync::Arc;

use super::super::chap::Algorithm;
use super::super::{ChapSecrets, ChapUser};
use super::*;

const OPEN_ISCSI: &[Pair<'_>] = &[
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "0"),
    ("IFMarker", "No"),
    ("OFMarker", "No"),
    ("ErrorRecoveryLevel", "0"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxBurstLength", "16776192"),
    ("FirstBurstLength", "262144"),
    ("MaxOutstandingR2T", "1"),
    ("MaxConnections", "1"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("MaxRecvDataSegmentLength", "262144"),
];

/// Answers to every key that is negotiated, in the order of the request.
fn answers(reply: &Reply) -> Vec<(String, String)> {
    said(&reply.text)
}

#[test]
fn a_linux_host_without_authentication() {
    let mut talk = Talk::new(Offer::default());
    let first = [
        ("InitiatorName", "iqn.1993-08.org.debian:01:abc"),
        ("InitiatorAlias", "host"),
        ("TargetName", "iqn.2026-11.io.bedplate:v"),
        ("SessionType", "Normal"),
        ("AuthMethod", "None"),
    ];
    let greeting = reply(talk.send(TO_OPERATIONAL, &first));
    assert_eq!(
        answers(&greeting),
        [
            ("TargetPortalGroupTag".into(), "1".into()),
            ("AuthMethod".into(), "None".into())
        ]
    );
    let (negotiated, last) = talk.finish(TO_END, OPEN_ISCSI);
    let expected = [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("IFMarker", "No"),
        ("OFMarker", "No"),
        ("ErrorRecoveryLevel", "0"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "1048576"),
        ("MaxOutstandingR2T", "1"),
        ("MaxConnections", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("FirstBurstLength", "262144"),
        ("MaxRecvDataSegmentLength", "262144"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(answers(&last), expected);
    assert_eq!(negotiated.first_burst_bytes, 262_144);
    assert_eq!(negotiated.named.initiator_alias.as_deref(), Some("host"));
}

#[test]
fn a_linux_host_that_discovers() {
    let mut talk = Talk::new(Offer::default());
    let first = [
        ("InitiatorName", "iqn.1993-08.org.debian:01:abc"),
        ("InitiatorAlias", "host"),
        ("SessionType", "Discovery"),
        ("AuthMethod", "None"),
    ];
    reply(talk.send(TO_OPERATIONAL, &first));
    let second = [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("IFMarker", "No"),
        ("OFMarker", "No"),
        ("ErrorRecoveryLevel", "0"),
        ("MaxRecvDataSegmentLength", "32768"),
    ];
    let (negotiated, _) = talk.finish(TO_END, &second);
    assert!(negotiated.named.discovery);
    assert_eq!(negotiated.max_send_data_bytes, 32_768);
}

/// libiscsi, and with it qemu: security first, all operational keys at once, no markers.
#[test]
fn a_library_with_chap() {
    let mut talk = Talk::new(Offer::default());
    talk.admission.chap = Some(Arc::new(ChapSecrets {
        initiators: vec![ChapUser {
            initiator: None,
            user: "user".to_owned(),
            secret: b"password1234".to_vec(),
        }],
        target: None,
    }));
    let first = [
        ("InitiatorName", "iqn.2008-11.org.linux-kvm:vm"),
        ("InitiatorAlias", ""),
        ("TargetName", "iqn.2026-11.io.bedplate:v"),
        ("SessionType", "Normal"),
        ("AuthMethod", "CHAP,None"),
    ];
    let method = reply(talk.send(STAY, &first));
    assert_eq!(answer(&method, "AuthMethod").as_deref(), Some("CHAP"));
    reply(talk.send(STAY, &[("CHAP_A", "5")]));
    let response = Algorithm::Md5.response(5, b"password1234", &[5; 32]);
    let digits: String = response.iter().map(|byte| format!("{byte:02x}")).collect();
    let proof = format!("0x{digits}");
    let pairs = [("CHAP_N", "user"), ("CHAP_R", proof.as_str())];
    assert_eq!(
        reply(talk.send(TO_OPERATIONAL, &pairs)).header.form(),
        TO_OPERATIONAL
    );
    let keys = [
        ("HeaderDigest", "None,CRC32C"),
        ("DataDigest", "None"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "262144"),
        ("FirstBurstLength", "262144"),
        ("MaxRecvDataSegmentLength", "262144"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "20"),
        ("ErrorRecoveryLevel", "0"),
        ("MaxConnections", "1"),
    ];
    let (negotiated, _) = talk.finish(TO_END, &keys);
    assert_eq!(negotiated.user.as_deref(), Some("user"));
    assert_eq!(negotiated.first_burst_bytes, 262_144);
}

/// Windows sends the operational keys in two requests, and asks without transit first.
#[test]
fn a_windows_host() {
    let mut talk = Talk::new(Offer::default());
    let first = [
        ("InitiatorName", "iqn.1991-05.com.microsoft:pc"),
        ("SessionType", "Normal"),
        ("TargetName", "iqn.2026-11.io.bedplate:v"),
        ("AuthMethod", "None"),
    ];
    reply(talk.send(TO_OPERATIONAL, &first));
    let stay = form(Stage::OPERATIONAL, None);
    let keys = [
        ("HeaderDigest", "None,CRC32C"),
        ("DataDigest", "None,CRC32C"),
        ("ErrorRecoveryLevel", "2"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxRecvDataSegmentLength", "65536"),
        ("MaxBurstLength", "262144"),
        ("FirstBurstLength", "65536"),
        ("MaxConnections", "4"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("DefaultTime2Wait", "0"),
        ("DefaultTime2Retain", "60"),
        ("MaxOutstandingR2T", "16"),
    ];
    let middle = reply(talk.send(stay, &keys));
    assert_eq!(middle.header.form(), stay);
    assert_eq!(answer(&middle, "ErrorRecoveryLevel").as_deref(), Some("0"));
    let (negotiated, last) = talk.finish(TO_END, &[]);
    assert!(last.text.is_empty());
    assert_eq!(negotiated.max_connections, 4);
    assert_eq!(negotiated.max_outstanding_r2t, 8);
    assert_eq!(negotiated.time2retain_s, 20);
}

/// Boot firmware: security and operational keys in one request, nul bytes at its end.
#[test]
fn boot_firmware_with_everything_at_once() {
    let mut talk = Talk::new(Offer::default());
    let mut bytes = text(
        &[
            WHO,
            &[("HeaderDigest", "None"), ("MaxBurstLength", "65536")],
        ]
        .concat(),
    );
    bytes.extend([0; 3]);
    let Step::Finished(negotiated) = talk.raw(TO_END, &bytes) else {
        panic!("not finished");
    };
    assert_eq!(negotiated.max_burst_bytes, 65_536);
}
