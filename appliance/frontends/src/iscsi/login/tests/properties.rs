//! No requests at all make a login panic, answer without bounds, or let anyone in unproven.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{ChapSecrets, ChapUser, TEXT_MAX_BYTES};
use super::*;

fn keys() -> impl Strategy<Value = &'static str> {
    let rules = super::super::keys::RULES.iter().map(|rule| rule.name);
    let others = [
        "InitiatorName",
        "TargetName",
        "SessionType",
        "InitiatorAlias",
        "AuthMethod",
        "CHAP_A",
        "CHAP_N",
        "CHAP_R",
        "CHAP_I",
        "CHAP_C",
        "MaxRecvDataSegmentLength",
        "SendTargets",
        "TaskReporting",
        "TargetAlias",
        "X-other",
    ];
    select(rules.chain(others).collect::<Vec<_>>())
}

fn values() -> impl Strategy<Value = String> {
    let known = [
        "Yes",
        "No",
        "None",
        "CRC32C",
        "CHAP",
        "CHAP,None",
        "5",
        "7",
        "0",
        "1",
        "512",
        "65536",
        "16777215",
        "0x0505",
        "Normal",
        "Discovery",
        "Reject",
        "Irrelevant",
        "NotUnderstood",
        "iqn.a",
    ];
    prop_oneof![4 => select(known.to_vec()).prop_map(str::to_owned), 1 => "[ -~]{0,300}"]
}

fn requests() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let pairs = vec((keys(), values()), 0..6).prop_map(|pairs| {
        let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}\0"));
        pairs.collect::<String>().into_bytes()
    });
    let bytes = prop_oneof![6 => pairs, 1 => vec(any::<u8>(), 0..64)];
    let flags = prop_oneof![
        select(vec![0x00, 0x81, 0x83, 0x04, 0x87, 0x40, 0x44]),
        any::<u8>()
    ];
    vec((flags, bytes), 1..12)
}

fn secrets() -> ChapSecrets {
    ChapSecrets {
        initiators: vec![ChapUser {
            initiator: None,
            user: "5".to_owned(),
            secret: b"nobody guesses this".to_vec(),
        }],
        target: None,
    }
}

proptest! {
    #[test]
    fn anything_is_answered_within_bounds(
        requests in requests(), named in any::<bool>(), asked in any::<bool>()
    ) {
        let mut talk = Talk::new(Offer::default());
        if asked {
            talk.admission.chap = Some(Arc::new(secrets()));
        }
        for (index, (flag_bits, mut bytes)) in requests.into_iter().enumerate() {
            if named && index == 0 {
                bytes.splice(0..0, text(&WHO[..2]));
            }
            talk.request.flags = flag_bits;
            let mut step = talk.login.receive(&talk.request, &bytes);
            if let Step::Named(_) = step {
                step = talk.login.proceed(talk.admission.clone());
            }
            match step {
                Step::Reply(reply) | Step::Refused(reply) => {
                    prop_assert!(reply.text.len() <= 8192);
                    prop_assert!(reply.header.status().name().is_some());
                }
                Step::Finished(negotiated) => {
                    prop_assert!(!asked, "nobody proved anything");
                    prop_assert!(negotiated.first_burst_bytes <= negotiated.max_burst_bytes);
                    prop_assert!(negotiated.max_connections >= 1);
                    prop_assert!(negotiated.max_send_data_bytes >= 512);
                    prop_assert!(talk.login.finish(1).text.len() <= 8192);
                }
                Step::Named(_) => prop_assert!(false, "named twice"),
            }
            prop_assert!(bytes.len() <= TEXT_MAX_BYTES);
        }
    }
}
