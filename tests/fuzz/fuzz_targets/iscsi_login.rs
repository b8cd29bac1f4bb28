//! A whole iSCSI login, request by request, with and without CHAP, and text requests after it.
//!
//! The input: a byte of settings, then requests, each a byte of flags and its text, with 0xFF
//! (which no text has) between them.
#![no_main]

use std::sync::Arc;

use frontends::iscsi::login::{
    Admission, ChapSecrets, ChapUser, DigestPolicy, Login, Offer, Reply, Step, TargetEntry,
    TextExchange, TextStep,
};
use libfuzzer_sys::fuzz_target;
use wire::iscsi::text::Pairs;
use wire::iscsi::{LoginRequest, NO_TAG, TextRequest};

/// A MaxRecvDataSegmentLength that makes answers go on.
const LIMIT_BYTES: u32 = 512;

fuzz_target!(|bytes: &[u8]| {
    let Some((settings, requests)) = bytes.split_first() else {
        return;
    };
    let mut login = Login::new(offer(*settings), |random| random.fill(5));
    let mut requests = requests.split(|byte| *byte == 0xff);
    while let Some(request) = requests.next() {
        let (flags, text) = request.split_first().unwrap_or((&0, &[]));
        let header = LoginRequest {
            flags: *flags,
            ..LoginRequest::zeroed()
        };
        let mut step = login.receive(&header, text);
        if let Step::Named(_) = step {
            step = login.proceed(admission(*settings));
        }
        match step {
            Step::Reply(reply) => check(&reply),
            Step::Refused(reply) => return check(&reply),
            Step::Finished(negotiated) => {
                assert!(!asks(*settings), "nobody knows the secret");
                assert!(negotiated.first_burst_bytes <= negotiated.max_burst_bytes);
                assert!((512..1 << 24).contains(&negotiated.max_send_data_bytes));
                check(&login.finish(1));
                return talk(negotiated.named.target, requests);
            }
            Step::Named(_) => panic!("named twice"),
        }
    }
});

fn asks(settings: u8) -> bool {
    settings & 1 != 0
}

fn offer(settings: u8) -> Offer {
    Offer {
        immediate_data: settings & 2 == 0,
        max_burst_bytes: if settings & 4 == 0 { 1 << 20 } else { 65_536 },
        header_digest: if settings & 8 == 0 {
            DigestPolicy::Initiator
        } else {
            DigestPolicy::Required
        },
        ..Offer::default()
    }
}

fn admission(settings: u8) -> Admission {
    let user = |user: &str, secret: &str| ChapUser {
        initiator: None,
        user: user.to_owned(),
        secret: secret.into(),
    };
    let secrets = ChapSecrets {
        initiators: vec![user("user", "nobody guesses this")],
        target: Some(user("target", "nor this")),
    };
    Admission {
        portal_group_tag: 1,
        chap: asks(settings).then(|| Arc::new(secrets)),
        ..Admission::default()
    }
}

fn check(reply: &Reply) {
    assert!(reply.text.len() <= 8192);
    assert!(reply.header.status().name().is_some());
    assert!(
        Pairs::new(&reply.text).all(|pair| pair.is_ok()),
        "our own text"
    );
}

/// Text requests in full feature phase; the flags' low bit says whether an exchange goes on.
fn talk<'a>(target: Option<String>, requests: impl Iterator<Item = &'a [u8]>) {
    let mut exchange = TextExchange::new(target);
    for request in requests {
        let (flags, text) = request.split_first().unwrap_or((&0, &[]));
        let header = TextRequest {
            flags: *flags,
            ttt: if flags & 1 == 0 { NO_TAG } else { 1 }.into(),
            ..TextRequest::zeroed()
        };
        let reply = match exchange.receive(&header, text, LIMIT_BYTES) {
            TextStep::Reply(reply) => reply,
            TextStep::Targets(_) => exchange.targets(&targets(), LIMIT_BYTES),
            TextStep::Rejected(reason) => {
                assert!(reason.name().is_some());
                continue;
            }
        };
        assert!(reply.text.len() <= LIMIT_BYTES as usize);
        assert!(!reply.cut || !reply.last);
    }
}

fn targets() -> Vec<TargetEntry> {
    let entry = |number| TargetEntry {
        name: format!("iqn.2026-11.io.bedplate:volume-{number}"),
        addresses: vec![(([127, 0, 0, 1], 3260).into(), 1)],
    };
    (0..20).map(entry).collect()
}
