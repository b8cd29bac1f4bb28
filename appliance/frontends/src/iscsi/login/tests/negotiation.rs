//! Every operational key, each way.

use super::super::DigestPolicy;
use super::*;

fn offer() -> Offer {
    Offer {
        header_digest: DigestPolicy::Initiator,
        data_digest: DigestPolicy::Initiator,
        max_connections: 8,
        initial_r2t: false,
        immediate_data: true,
        max_recv_data_bytes: 131_072,
        max_burst_bytes: 1 << 20,
        first_burst_bytes: 131_072,
        time2wait_s: 2,
        time2retain_s: 20,
        max_outstanding_r2t: 4,
        protocol_level: 1,
        command_window: 64,
    }
}

type Read = fn(&Negotiated) -> u64;

#[test]
fn each_key_is_answered_by_its_function() {
    let table: [(&str, &str, &str, Read, u64); 38] = [
        (
            "HeaderDigest",
            "CRC32C,None",
            "CRC32C",
            |n| n.digests.header.into(),
            1,
        ),
        (
            "HeaderDigest",
            "None,CRC32C",
            "None",
            |n| n.digests.header.into(),
            0,
        ),
        (
            "HeaderDigest",
            "X-odd,CRC32C",
            "CRC32C",
            |n| n.digests.header.into(),
            1,
        ),
        (
            "DataDigest",
            "CRC32C",
            "CRC32C",
            |n| n.digests.data.into(),
            1,
        ),
        ("DataDigest", "None", "None", |n| n.digests.data.into(), 0),
        ("MaxConnections", "1", "1", |n| n.max_connections.into(), 1),
        (
            "MaxConnections",
            "65535",
            "8",
            |n| n.max_connections.into(),
            8,
        ),
        ("InitialR2T", "Yes", "Yes", |n| n.initial_r2t.into(), 1),
        ("InitialR2T", "No", "No", |n| n.initial_r2t.into(), 0),
        (
            "ImmediateData",
            "Yes",
            "Yes",
            |n| n.immediate_data.into(),
            1,
        ),
        ("ImmediateData", "No", "No", |n| n.immediate_data.into(), 0),
        (
            "MaxBurstLength",
            "512",
            "512",
            |n| n.max_burst_bytes.into(),
            512,
        ),
        (
            "MaxBurstLength",
            "0x80000",
            "524288",
            |n| n.max_burst_bytes.into(),
            524_288,
        ),
        (
            "MaxBurstLength",
            "16777215",
            "1048576",
            |n| n.max_burst_bytes.into(),
            1 << 20,
        ),
        (
            "FirstBurstLength",
            "4096",
            "4096",
            |n| n.first_burst_bytes.into(),
            4096,
        ),
        (
            "FirstBurstLength",
            "16777215",
            "131072",
            |n| n.first_burst_bytes.into(),
            131_072,
        ),
        ("DefaultTime2Wait", "0", "2", |n| n.time2wait_s.into(), 2),
        (
            "DefaultTime2Wait",
            "3600",
            "3600",
            |n| n.time2wait_s.into(),
            3600,
        ),
        (
            "DefaultTime2Retain",
            "0",
            "0",
            |n| n.time2retain_s.into(),
            0,
        ),
        (
            "DefaultTime2Retain",
            "3600",
            "20",
            |n| n.time2retain_s.into(),
            20,
        ),
        (
            "MaxOutstandingR2T",
            "1",
            "1",
            |n| n.max_outstanding_r2t.into(),
            1,
        ),
        (
            "MaxOutstandingR2T",
            "65535",
            "4",
            |n| n.max_outstanding_r2t.into(),
            4,
        ),
        (
            "DataPDUInOrder",
            "Yes",
            "Yes",
            |n| n.data_pdu_in_order.into(),
            1,
        ),
        (
            "DataPDUInOrder",
            "No",
            "Yes",
            |n| n.data_pdu_in_order.into(),
            1,
        ),
        (
            "DataSequenceInOrder",
            "Yes",
            "Yes",
            |n| n.data_sequence_in_order.into(),
            1,
        ),
        (
            "DataSequenceInOrder",
            "No",
            "Yes",
            |n| n.data_sequence_in_order.into(),
            1,
        ),
        ("ErrorRecoveryLevel", "0", "0", |_| 0, 0),
        ("ErrorRecoveryLevel", "2", "0", |_| 0, 0),
        (
            "iSCSIProtocolLevel",
            "2",
            "1",
            |n| n.protocol_level.into(),
            1,
        ),
        (
            "iSCSIProtocolLevel",
            "0",
            "0",
            |n| n.protocol_level.into(),
            0,
        ),
        ("TaskReporting", "FastAbort,RFC3720", "RFC3720", |_| 0, 0),
        ("TaskReporting", "FastAbort", "Reject", |_| 0, 0),
        ("IFMarker", "Yes", "No", |_| 0, 0),
        ("OFMarker", "No", "No", |_| 0, 0),
        ("IFMarkInt", "2048~8192", "Reject", |_| 0, 0),
        ("OFMarkInt", "2048", "Reject", |_| 0, 0),
        ("RDMAExtensions", "Yes", "No", |_| 0, 0),
        ("SendTargets", "All", "Reject", |_| 0, 0),
    ];
    for (key, value, answered, read, expected) in table {
        let (negotiated, reply) = negotiate(offer(), WHO, &[(key, value)]);
        let shown = format!("{key}={value}");
        assert_eq!(answer(&reply, key).as_deref(), Some(answered), "{shown}");
        assert_eq!(read(&negotiated), expected, "{shown}");
    }
}

#[test]
fn values_that_a_key_cannot_have_end_the_login() {
    let table = [
        ("HeaderDigest", "MD5"),
        ("HeaderDigest", ""),
        ("DataDigest", "crc32c"),
        ("MaxConnections", "0"),
        ("MaxConnections", "65536"),
        ("MaxConnections", "many"),
        ("InitialR2T", "yes"),
        ("InitialR2T", ""),
        ("ImmediateData", "1"),
        ("MaxRecvDataSegmentLength", "511"),
        ("MaxRecvDataSegmentLength", "16777216"),
        ("MaxRecvDataSegmentLength", "99999999999999999999999"),
        ("MaxBurstLength", "511"),
        ("MaxBurstLength", "16777216"),
        ("MaxBurstLength", "-1"),
        ("FirstBurstLength", "0"),
        ("DefaultTime2Wait", "3601"),
        ("DefaultTime2Retain", "3601"),
        ("MaxOutstandingR2T", "0"),
        ("MaxOutstandingR2T", "65536"),
        ("DataPDUInOrder", "Maybe"),
        ("DataSequenceInOrder", "None"),
        ("ErrorRecoveryLevel", "3"),
        ("iSCSIProtocolLevel", "32"),
        ("TargetAddress", "127.0.0.1"),
        ("TargetAlias", "mine"),
        ("TargetPortalGroupTag", "1"),
        ("InitiatorName", "iqn.another"),
        ("SessionType", "Discovery"),
        ("AuthMethod", "None"),
    ];
    for (key, value) in table {
        let mut talk = Talk::new(offer());
        reply(talk.send(form(Stage::OPERATIONAL, None), WHO));
        let step = talk.send(TO_END, &[(key, value)]);
        assert_eq!(refused(step), LoginStatus::INITIATOR_ERROR, "{key}={value}");
    }
}

#[test]
fn a_key_is_negotiated_once() {
    let rules = super::super::keys::RULES.iter().map(|rule| rule.name);
    for key in rules.chain(["MaxRecvDataSegmentLength"]) {
        let value = match key {
            "HeaderDigest" | "DataDigest" => "None",
            "InitialR2T" | "ImmediateData" | "DataPDUInOrder" | "DataSequenceInOrder" => "Yes",
            "ErrorRecoveryLevel" | "iSCSIProtocolLevel" | "MaxConnections" => "1",
            _ => "1024",
        };
        let twice = [WHO, &[(key, value), (key, value)]].concat();
        let at_once = Talk::new(offer()).send(TO_END, &twice);
        assert_eq!(refused(at_once), LoginStatus::INITIATOR_ERROR, "{key}");
        let mut talk = Talk::new(offer());
        let first = [WHO, &[(key, value)]].concat();
        reply(talk.send(form(Stage::OPERATIONAL, None), &first));
        let again = talk.send(TO_END, &[(key, value)]);
        assert_eq!(refused(again), LoginStatus::INITIATOR_ERROR, "{key}");
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let (negotiated, reply) = negotiate(offer(), WHO, &[]);
    let expected = Negotiated {
        max_recv_data_bytes: 131_072,
        cmd_sn: 100,
        stat_sn: 7,
        ..Negotiated::defaults(negotiated.named.clone())
    };
    assert_eq!(negotiated, expected);
    let own = [
        ("TargetPortalGroupTag".to_owned(), "1".to_owned()),
        ("MaxRecvDataSegmentLength".to_owned(), "131072".to_owned()),
    ];
    assert_eq!(said(&reply.text), own);
}

#[test]
fn each_side_declares_its_segment_length() {
    let pairs = [("MaxRecvDataSegmentLength", "262144")];
    let (negotiated, reply) = negotiate(offer(), WHO, &pairs);
    assert_eq!(negotiated.max_send_data_bytes, 262_144);
    assert_eq!(negotiated.max_recv_data_bytes, 131_072);
    let own = answer(&reply, "MaxRecvDataSegmentLength");
    assert_eq!(own.as_deref(), Some("131072"));
}

#[test]
fn the_first_burst_is_never_longer_than_a_burst() {
    for pairs in [
        [("MaxBurstLength", "8192"), ("FirstBurstLength", "65536")],
        [("FirstBurstLength", "65536"), ("MaxBurstLength", "8192")],
    ] {
        let (negotiated, reply) = negotiate(offer(), WHO, &pairs);
        assert_eq!(answer(&reply, "FirstBurstLength").as_deref(), Some("8192"));
        assert_eq!(negotiated.first_burst_bytes, 8192);
    }
    let (negotiated, _) = negotiate(offer(), WHO, &[("MaxBurstLength", "8192")]);
    assert_eq!(negotiated.first_burst_bytes, 8192, "the default is longer");
}

#[test]
fn unknown_keys_are_not_understood() {
    let pairs = [
        ("X-com.example.key", "1"),
        ("Colour", "blue"),
        ("X-answer", "NotUnderstood"),
    ];
    let (_, reply) = negotiate(offer(), WHO, &pairs);
    assert_eq!(
        answer(&reply, "X-com.example.key").as_deref(),
        Some("NotUnderstood")
    );
    assert_eq!(answer(&reply, "Colour").as_deref(), Some("NotUnderstood"));
    assert_eq!(
        answer(&reply, "X-answer"),
        None,
        "an answer is not answered"
    );
}

#[test]
fn a_known_key_that_only_answers_is_passed_over() {
    for value in ["Reject", "Irrelevant", "NotUnderstood"] {
        let (negotiated, reply) = negotiate(offer(), WHO, &[("MaxBurstLength", value)]);
        assert_eq!(answer(&reply, "MaxBurstLength"), None);
        assert_eq!(negotiated.max_burst_bytes, 262_144);
    }
}

#[test]
fn too_many_unknown_keys_end_the_login() {
    let many = vec![("X-key-without-end", "1"); 500];
    let step = Talk::new(offer()).send(TO_END, &[WHO, &many].concat());
    assert_eq!(refused(step), LoginStatus::INITIATOR_ERROR);
}

#[test]
fn session_keys_mean_nothing_to_discovery() {
    let pairs = [
        ("MaxConnections", "4"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "1048576"),
        ("FirstBurstLength", "65536"),
        ("MaxOutstandingR2T", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("iSCSIProtocolLevel", "1"),
    ];
    let others = [
        ("HeaderDigest", "None"),
        ("DefaultTime2Wait", "0"),
        ("ErrorRecoveryLevel", "0"),
    ];
    let all = [&pairs[..], &others].concat();
    let (negotiated, reply) = negotiate(offer(), DISCOVERY, &all);
    for (key, _) in pairs {
        assert_eq!(answer(&reply, key).as_deref(), Some("Irrelevant"), "{key}");
    }
    for (key, expected) in [("HeaderDigest", "None"), ("DefaultTime2Wait", "2")] {
        assert_eq!(answer(&reply, key).as_deref(), Some(expected), "{key}");
    }
    assert_eq!(answer(&reply, "TargetPortalGroupTag"), None);
    assert!(negotiated.named.discovery);
    assert_eq!(negotiated.max_connections, 1);
}

fn strict() -> Offer {
    Offer {
        immediate_data: false,
        // Not worth an offer.
        time2wait_s: 5,
        time2retain_s: 0,
        max_burst_bytes: 131_072,
        header_digest: DigestPolicy::Required,
        ..offer()
    }
}

#[test]
fn where_the_default_does_not_do_the_target_offers() {
    let mut talk = Talk::new(strict());
    let first = reply(talk.send(TO_END, WHO));
    assert!(!first.header.form().transit, "the answers are missing");
    for (key, value) in [
        ("HeaderDigest", "CRC32C"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "131072"),
    ] {
        assert_eq!(answer(&first, key).as_deref(), Some(value));
    }
    for silent in ["FirstBurstLength", "DefaultTime2Wait", "DefaultTime2Retain"] {
        assert_eq!(answer(&first, silent), None);
    }
    let answers = [
        ("HeaderDigest", "CRC32C"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "65536"),
    ];
    let (negotiated, last) = talk.finish(TO_END, &answers);
    assert!(last.text.is_empty(), "answers are not answered");
    assert!(negotiated.digests.header && !negotiated.immediate_data);
    assert_eq!(negotiated.max_burst_bytes, 65_536);
}

#[test]
fn what_the_initiator_offered_is_not_offered_back() {
    let mut talk = Talk::new(strict());
    let pairs = [
        ("HeaderDigest", "None,CRC32C"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "262144"),
    ];
    let (negotiated, last) = talk.finish(TO_END, &[WHO, &pairs].concat());
    assert_eq!(answer(&last, "HeaderDigest").as_deref(), Some("CRC32C"));
    assert_eq!(answer(&last, "ImmediateData").as_deref(), Some("No"));
    assert_eq!(negotiated.max_burst_bytes, 131_072);
}

#[test]
fn an_offer_has_to_be_answered_in_kind() {
    let table: [&[Pair<'_>]; 4] = [
        &[("ImmediateData", "Yes")],
        &[("MaxBurstLength", "262144")],
        &[("MaxBurstLength", "Reject")],
        &[("HeaderDigest", "None")],
    ];
    for answers in table {
        let mut talk = Talk::new(strict());
        reply(talk.send(TO_END, WHO));
        let step = talk.send(TO_END, answers);
        assert_eq!(refused(step), LoginStatus::INITIATOR_ERROR, "{answers:?}");
    }
}

/// Boot firmware says nothing about what it is offered.
#[test]
fn offers_that_are_passed_over_leave_the_defaults() {
    let lenient = Offer {
        header_digest: DigestPolicy::Initiator,
        ..strict()
    };
    let mut talk = Talk::new(lenient);
    reply(talk.send(TO_END, WHO));
    let waits = reply(talk.send(form(Stage::OPERATIONAL, None), &[]));
    assert!(waits.text.is_empty(), "an offer is made once");
    let (negotiated, _) = talk.finish(TO_END, &[("ImmediateData", "No")]);
    assert!(!negotiated.immediate_data, "this one was answered");
    assert_eq!(negotiated.max_burst_bytes, 262_144);
    let mut talk = Talk::new(strict());
    reply(talk.send(TO_END, WHO));
    assert_eq!(
        refused(talk.send(TO_END, &[])),
        LoginStatus::INITIATOR_ERROR,
        "no digest"
    );
}

#[test]
fn digests_follow_the_policy() {
    let off = Offer {
        header_digest: DigestPolicy::Off,
        ..offer()
    };
    let (negotiated, _) = negotiate(off, WHO, &[("HeaderDigest", "CRC32C,None")]);
    assert!(!negotiated.digests.header);
    let step = Talk::new(off).send(TO_END, &[WHO, &[("HeaderDigest", "CRC32C")]].concat());
    assert_eq!(refused(step), LoginStatus::INITIATOR_ERROR);
}
