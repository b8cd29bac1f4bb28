//! Logins from end to end: keys, stages, CHAP, and what real initiators say.

mod authentication;
mod flow;
mod initiators;
mod negotiation;
mod properties;
mod send_targets;

use wire::iscsi::text::Pairs;
use wire::iscsi::{InitiatorNumbers, LoginFlags, LoginRequest, LoginStatus, Stage};

use super::{Admission, Login, Named, Negotiated, Offer, Reply, Step};

const ISID: [u8; 6] = [0x80, 0, 0, 0, 0, 1];
const WHO: &[(&str, &str)] = &[
    ("InitiatorName", "iqn.2005-03.org.example:host"),
    ("TargetName", "iqn.2026-11.io.bedplate:v"),
    ("SessionType", "Normal"),
];
const DISCOVERY: &[(&str, &str)] = &[
    ("InitiatorName", "iqn.2005-03.org.example:host"),
    ("SessionType", "Discovery"),
];

type Pair<'a> = (&'a str, &'a str);

/// Not random: every byte of a challenge is 5.
fn fives(bytes: &mut [u8]) {
    bytes.fill(5);
}

fn text(pairs: &[Pair<'_>]) -> Vec<u8> {
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}\0"));
    pairs.collect::<String>().into_bytes()
}

fn said(bytes: &[u8]) -> Vec<(String, String)> {
    Pairs::new(bytes)
        .map(|pair| pair.map(|pair| (pair.key.to_owned(), pair.value.to_owned())))
        .collect::<Result<_, _>>()
        .expect("our own text")
}

fn form(current: Stage, next: Option<Stage>) -> LoginFlags {
    LoginFlags {
        transit: next.is_some(),
        continues: false,
        current,
        next: next.unwrap_or(Stage::SECURITY),
    }
}

const STAY: LoginFlags = LoginFlags {
    transit: false,
    continues: false,
    current: Stage::SECURITY,
    next: Stage::SECURITY,
};
const TO_OPERATIONAL: LoginFlags = LoginFlags {
    transit: true,
    next: Stage::OPERATIONAL,
    ..STAY
};
const TO_END: LoginFlags = LoginFlags {
    transit: true,
    continues: false,
    current: Stage::OPERATIONAL,
    next: Stage::FULL_FEATURE,
};

fn request(form: LoginFlags) -> LoginRequest {
    let numbers = InitiatorNumbers {
        cmd_sn: 100,
        exp_stat_sn: 7,
    };
    LoginRequest::new(ISID, (0, 1), 9, form, 0, numbers)
}

/// An initiator with the target's side of its login.
struct Talk {
    login: Login,
    admission: Admission,
    request: LoginRequest,
}

impl Talk {
    fn new(offer: Offer) -> Self {
        Self {
            login: Login::new(offer, fives),
            admission: Admission {
                portal_group_tag: 1,
                ..Admission::default()
            },
            request: request(STAY),
        }
    }

    /// Sends a request; the target is found at once.
    fn send(&mut self, form: LoginFlags, pairs: &[Pair<'_>]) -> Step {
        self.raw(form, &text(pairs))
    }

    fn raw(&mut self, form: LoginFlags, bytes: &[u8]) -> Step {
        self.request.flags = form.encode();
        let step = self.login.receive(&self.request, bytes);
        match step {
            Step::Named(_) => self.login.proceed(self.admission.clone()),
            other => other,
        }
    }

    fn finish(&mut self, form: LoginFlags, pairs: &[Pair<'_>]) -> (Negotiated, Reply) {
        match self.send(form, pairs) {
            Step::Finished(negotiated) => (*negotiated, self.login.finish(42)),
            other => panic!("{other:?}"),
        }
    }
}

fn reply(step: Step) -> Reply {
    match step {
        Step::Reply(reply) => {
            assert_eq!(reply.header.status(), LoginStatus::SUCCESS);
            reply
        }
        other => panic!("{other:?}"),
    }
}

fn refused(step: Step) -> LoginStatus {
    match step {
        Step::Refused(reply) => {
            assert_eq!(reply.header.flags, 0);
            assert!(reply.text.is_empty());
            reply.header.status()
        }
        other => panic!("{other:?}"),
    }
}

/// What was answered to `key`.
fn answer(reply: &Reply, key: &str) -> Option<String> {
    let mut all = said(&reply.text).into_iter().filter(|pair| pair.0 == key);
    let first = all.next().map(|pair| pair.1);
    assert!(all.next().is_none(), "{key} was answered twice");
    first
}

/// A whole login in one request, which names nothing but `pairs`.
fn negotiate(offer: Offer, who: &[Pair<'_>], pairs: &[Pair<'_>]) -> (Negotiated, Reply) {
    Talk::new(offer).finish(TO_END, &[who, pairs].concat())
}
