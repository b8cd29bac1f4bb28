//! Text requests in full feature phase: scopes, lists over several responses, refusals.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::iscsi::text::Pairs;
use wire::iscsi::{NO_TAG, RejectReason, TargetNumbers, TextRequest};
use zerocopy::big_endian::U32;

use super::super::{TargetEntry, TargetScope, TextExchange, TextStep};

const LIMIT: u32 = 8192;
/// The tag of an exchange that goes on.
const TAG: u32 = 1;

fn request(flag_bits: u8, ttt: u32) -> TextRequest {
    TextRequest {
        flags: flag_bits,
        ttt: U32::new(ttt),
        ..TextRequest::zeroed()
    }
}

fn ask(exchange: &mut TextExchange, text: &[u8]) -> TextStep {
    exchange.receive(&request(0x80, NO_TAG), text, LIMIT)
}

fn discovery() -> TextExchange {
    TextExchange::new(None)
}

fn normal() -> TextExchange {
    TextExchange::new(Some("iqn.a".to_owned()))
}

fn entry(name: &str) -> TargetEntry {
    TargetEntry {
        name: name.to_owned(),
        addresses: vec![
            (([127, 0, 0, 1], 3260).into(), 1),
            (([0, 0, 0, 0, 0, 0, 0, 1], 3261).into(), 2),
        ],
    }
}

fn said(step: TextStep) -> String {
    let TextStep::Reply(reply) = step else {
        panic!("{step:?}");
    };
    assert!(reply.last && !reply.cut);
    String::from_utf8(reply.text).expect("text")
}

#[test]
fn the_scope_depends_on_the_session() {
    let named = |name: &str| TextStep::Targets(TargetScope::Named(name.to_owned()));
    let all = b"SendTargets=All\0";
    assert_eq!(
        ask(&mut discovery(), all),
        TextStep::Targets(TargetScope::All)
    );
    assert_eq!(
        ask(&mut discovery(), b"SendTargets=iqn.B\0"),
        named("iqn.b")
    );
    assert_eq!(ask(&mut normal(), b"SendTargets=\0"), named("iqn.a"));
    assert_eq!(ask(&mut normal(), b"SendTargets=iqn.A\0"), named("iqn.a"));
    let refused: [(TextExchange, &[u8]); 4] = [
        (normal(), all),
        (normal(), b"SendTargets=iqn.b\0"),
        (discovery(), b"SendTargets=\0"),
        (discovery(), b"SendTargets=a b\0"),
    ];
    for (mut exchange, text) in refused {
        assert_eq!(said(ask(&mut exchange, text)), "SendTargets=Reject\0");
    }
}

#[test]
fn targets_are_listed_with_their_portals() {
    let mut exchange = discovery();
    ask(&mut exchange, b"SendTargets=All\0");
    let reply = exchange.targets(&[entry("iqn.a"), entry("iqn.b")], LIMIT);
    let portals = "TargetAddress=127.0.0.1:3260,1\0TargetAddress=[::1]:3261,2\0";
    let expected = format!("TargetName=iqn.a\0{portals}TargetName=iqn.b\0{portals}");
    assert_eq!(said(TextStep::Reply(reply)), expected);
    ask(&mut exchange, b"SendTargets=All\0");
    let nothing = exchange.targets(&[], LIMIT);
    assert_eq!(said(TextStep::Reply(nothing)), "");
}

#[test]
fn a_long_list_goes_on_over_several_responses() {
    let entries: Vec<TargetEntry> = (0..100).map(|n| entry(&format!("iqn.{n}"))).collect();
    let mut exchange = discovery();
    let first = request(0x80, NO_TAG);
    exchange.receive(&first, b"SendTargets=All\0", 512);
    let mut reply = exchange.targets(&entries, 512);
    let mut all = Vec::new();
    loop {
        assert!(reply.text.len() <= 512);
        let header = reply.header(&first, TargetNumbers::default());
        all.extend_from_slice(&reply.text);
        if reply.last {
            assert_eq!((header.flags, header.ttt.get()), (0x80, NO_TAG));
            break;
        }
        assert_eq!((header.flags, header.ttt.get()), (0x40, TAG));
        let TextStep::Reply(next) = exchange.receive(&request(0x80, TAG), b"", 512) else {
            panic!("refused");
        };
        reply = next;
    }
    let names =
        Pairs::new(&all).filter(|pair| pair.as_ref().is_ok_and(|pair| pair.key == "TargetName"));
    assert_eq!(names.count(), 100);
    let late = exchange.receive(&request(0x80, TAG), b"", 512);
    assert_eq!(late, TextStep::Rejected(RejectReason::INVALID_PDU_FIELD));
}

#[test]
fn a_request_can_come_in_pieces() {
    let mut exchange = discovery();
    let TextStep::Reply(reply) = exchange.receive(&request(0x40, NO_TAG), b"SendTar", LIMIT) else {
        panic!("refused");
    };
    assert!(!reply.last && !reply.cut && reply.text.is_empty());
    let step = exchange.receive(&request(0x80, TAG), b"gets=All\0", LIMIT);
    assert_eq!(step, TextStep::Targets(TargetScope::All));
    exchange.receive(&request(0x40, NO_TAG), b"SendTar", LIMIT);
    let step = ask(&mut exchange, b"SendTargets=All\0");
    assert_eq!(
        step,
        TextStep::Targets(TargetScope::All),
        "a new one forgets the old"
    );
}

#[test]
fn an_initiator_that_has_more_to_say_is_let() {
    let mut exchange = normal();
    let TextStep::Reply(reply) = exchange.receive(&request(0, NO_TAG), b"X-a=1\0", LIMIT) else {
        panic!("refused");
    };
    assert!(!reply.last && !reply.cut);
    let step = exchange.receive(&request(0x80, TAG), b"X-b=1\0", LIMIT);
    assert_eq!(said(step), "X-b=NotUnderstood\0");
}

#[test]
fn keys_of_the_login_are_over() {
    let table: [(&[u8], &str); 6] = [
        (b"MaxBurstLength=4096\0", "MaxBurstLength=Reject\0"),
        (b"AuthMethod=None\0", "AuthMethod=Reject\0"),
        (b"CHAP_R=0x00\0", "CHAP_R=Reject\0"),
        (b"X-other=1\0", "X-other=NotUnderstood\0"),
        (b"X-other=NotUnderstood\0", ""),
        (b"InitiatorAlias=me\0", ""),
    ];
    for (text, answer) in table {
        assert_eq!(said(ask(&mut normal(), text)), answer);
    }
}

#[test]
fn a_new_segment_length_is_told() {
    let TextStep::Reply(reply) = ask(&mut normal(), b"MaxRecvDataSegmentLength=65536\0") else {
        panic!("refused");
    };
    assert_eq!(reply.max_send_data_bytes, Some(65_536));
    assert!(reply.text.is_empty());
}

#[test]
fn what_breaks_the_protocol_is_rejected() {
    let pieces = request(0xc0, NO_TAG);
    let both = normal().receive(&pieces, b"", LIMIT);
    assert_eq!(both, TextStep::Rejected(RejectReason::PROTOCOL_ERROR));
    let texts: [&[u8]; 5] = [
        b"SendTargets=All\0SendTargets=All\0",
        b"MaxRecvDataSegmentLength=511\0",
        b"MaxRecvDataSegmentLength=512\0MaxRecvDataSegmentLength=512\0",
        b"SendTargets",
        &[b'A'; 8193],
    ];
    for text in texts {
        let step = ask(&mut discovery(), text);
        assert_eq!(step, TextStep::Rejected(RejectReason::PROTOCOL_ERROR));
    }
    let unknown = normal().receive(&request(0x80, 7), b"", LIMIT);
    assert_eq!(unknown, TextStep::Rejected(RejectReason::INVALID_PDU_FIELD));
}

#[test]
fn a_rest_is_asked_for_without_words() {
    let mut exchange = discovery();
    exchange.receive(&request(0x80, NO_TAG), b"SendTargets=All\0", 512);
    exchange.targets(&vec![entry("iqn.a"); 50], 512);
    let step = exchange.receive(&request(0x80, TAG), b"X-a=1\0", 512);
    assert_eq!(step, TextStep::Rejected(RejectReason::PROTOCOL_ERROR));
}

proptest! {
    #[test]
    fn anything_is_answered_within_bounds(
        requests in vec((any::<u8>(), 0u32..3, vec(any::<u8>(), 0..64)), 0..64)
    ) {
        let mut exchange = discovery();
        for (flag_bits, tag, text) in requests {
            let ttt = if tag == 0 { NO_TAG } else { tag };
            match exchange.receive(&request(flag_bits, ttt), &text, 512) {
                TextStep::Reply(reply) => prop_assert!(reply.text.len() <= 512),
                TextStep::Targets(_) => {
                    let reply = exchange.targets(&vec![entry("iqn.a"); 20], 512);
                    prop_assert!(reply.text.len() <= 512);
                }
                TextStep::Rejected(_) => {}
            }
        }
    }
}
