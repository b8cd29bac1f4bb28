//! CHAP, in one direction and in both, and every way to fail it.

use std::sync::Arc;

use wire::iscsi::text::decode_binary;

use super::super::chap::Algorithm;
use super::super::{ChapSecrets, ChapUser};
use super::*;

const FAILED: LoginStatus = LoginStatus::AUTHENTICATION_FAILED;
const BROKEN: LoginStatus = LoginStatus::INITIATOR_ERROR;
const SECRET: &str = "initiator secret";
const TARGET_SECRET: &str = "a secret of the target";
/// What [`fives`] makes of a challenge.
const CHALLENGE: [u8; 32] = [5; 32];

fn user(initiator: Option<&str>, user: &str, secret: &str) -> ChapUser {
    ChapUser {
        initiator: initiator.map(str::to_owned),
        user: user.to_owned(),
        secret: secret.into(),
    }
}

fn secrets() -> ChapSecrets {
    ChapSecrets {
        initiators: vec![user(None, "host", SECRET)],
        target: Some(user(None, "target", TARGET_SECRET)),
    }
}

fn talk(secrets: ChapSecrets) -> Talk {
    let mut talk = Talk::new(Offer::default());
    talk.admission.chap = Some(Arc::new(secrets));
    talk
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("0x{}", digits.collect::<String>())
}

/// Up to the challenge.
fn challenged(talk: &mut Talk, algorithms: &str) -> Reply {
    let first = reply(talk.send(
        TO_OPERATIONAL,
        &[WHO, &[("AuthMethod", "CHAP,None")]].concat(),
    ));
    assert_eq!(answer(&first, "AuthMethod").as_deref(), Some("CHAP"));
    assert!(!first.header.form().transit, "nothing was proven");
    let second = reply(talk.send(STAY, &[("CHAP_A", algorithms)]));
    assert_eq!(answer(&second, "CHAP_I").as_deref(), Some("5"));
    assert_eq!(answer(&second, "CHAP_C"), Some(hex(&CHALLENGE)));
    second
}

fn proof(algorithm: Algorithm, secret: &str) -> String {
    hex(&algorithm.response(5, secret.as_bytes(), &CHALLENGE))
}

#[test]
fn one_way() {
    for (offered, number, algorithm) in
        [("5", "5", Algorithm::Md5), ("5,7", "7", Algorithm::Sha256)]
    {
        let mut talk = talk(secrets());
        let reply = challenged(&mut talk, offered);
        assert_eq!(answer(&reply, "CHAP_A").as_deref(), Some(number));
        let response = proof(algorithm, SECRET);
        let pairs = [("CHAP_N", "host"), ("CHAP_R", response.as_str())];
        let last = super::reply(talk.send(TO_OPERATIONAL, &pairs));
        assert_eq!(last.header.form(), TO_OPERATIONAL);
        assert!(last.text.is_empty());
        let (negotiated, _) = talk.finish(TO_END, &[]);
        assert_eq!(negotiated.user.as_deref(), Some("host"));
    }
}

#[test]
fn a_response_can_be_base64() {
    let mut talk = talk(ChapSecrets {
        initiators: vec![user(None, "host", "abcabcabcabc")],
        target: None,
    });
    challenged(&mut talk, "5");
    let response = Algorithm::Md5.response(5, b"abcabcabcabc", &CHALLENGE);
    let text = format!("0b{}", base64(&response));
    let pairs = [("CHAP_N", "host"), ("CHAP_R", text.as_str())];
    assert!(
        reply(talk.send(TO_OPERATIONAL, &pairs))
            .header
            .form()
            .transit
    );
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let word = piece
            .iter()
            .fold(0, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - piece.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place > piece.len() {
                '='
            } else {
                letter as char
            });
        }
    }
    text
}

#[test]
fn both_ways() {
    let mut talk = talk(secrets());
    challenged(&mut talk, "5,7");
    let response = proof(Algorithm::Sha256, SECRET);
    let pairs = [
        ("CHAP_N", "host"),
        ("CHAP_R", response.as_str()),
        ("CHAP_I", "77"),
        ("CHAP_C", "0x0102030405060708090a"),
    ];
    let last = reply(talk.send(TO_OPERATIONAL, &pairs));
    assert_eq!(answer(&last, "CHAP_N").as_deref(), Some("target"));
    let mut theirs = [0; 64];
    let text = answer(&last, "CHAP_R").expect("a response");
    let len = decode_binary(&text, &mut theirs).expect("binary");
    let challenge = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let expected = Algorithm::Sha256.response(77, TARGET_SECRET.as_bytes(), &challenge);
    assert_eq!(theirs[..len], expected);
    assert!(last.header.form().transit);
}

#[test]
fn wrong_proofs_are_refused() {
    let good = proof(Algorithm::Md5, SECRET);
    let wrong = proof(Algorithm::Md5, "initiator secreT");
    let empty = proof(Algorithm::Md5, "");
    let short = &good[..good.len() - 2];
    let long = format!("{good}00");
    let table: [(&[Pair<'_>], LoginStatus); 11] = [
        (&[("CHAP_N", "host"), ("CHAP_R", &wrong)], FAILED),
        (&[("CHAP_N", "host"), ("CHAP_R", short)], FAILED),
        (&[("CHAP_N", "host"), ("CHAP_R", &long)], FAILED),
        (&[("CHAP_N", "host"), ("CHAP_R", "none")], FAILED),
        (&[("CHAP_N", "host"), ("CHAP_R", "0x")], FAILED),
        (&[("CHAP_N", "Host"), ("CHAP_R", &good)], FAILED),
        (&[("CHAP_N", "nobody"), ("CHAP_R", &empty)], FAILED),
        (&[("CHAP_R", &good)], LoginStatus::MISSING_PARAMETER),
        (&[("CHAP_N", "host")], LoginStatus::MISSING_PARAMETER),
        (
            &[("CHAP_N", "host"), ("CHAP_R", &good), ("CHAP_I", "1")],
            LoginStatus::MISSING_PARAMETER,
        ),
        (
            &[("CHAP_N", "host"), ("CHAP_N", "host"), ("CHAP_R", &good)],
            BROKEN,
        ),
    ];
    for (pairs, expected) in table {
        let mut talk = talk(secrets());
        challenged(&mut talk, "5");
        assert_eq!(
            refused(talk.send(TO_OPERATIONAL, pairs)),
            expected,
            "{pairs:?}"
        );
    }
}

#[test]
fn a_user_without_a_secret_cannot_come_in() {
    let mut talk = talk(ChapSecrets {
        initiators: vec![user(None, "host", "")],
        target: None,
    });
    challenged(&mut talk, "5");
    let empty = proof(Algorithm::Md5, "");
    let step = talk.send(TO_OPERATIONAL, &[("CHAP_N", "host"), ("CHAP_R", &empty)]);
    assert_eq!(refused(step), FAILED);
}

#[test]
fn a_user_is_good_for_its_initiator_only() {
    for (initiator, comes_in) in [(WHO[0].1, true), ("iqn.another", false)] {
        let mut talk = talk(ChapSecrets {
            initiators: vec![user(Some(initiator), "host", SECRET)],
            target: None,
        });
        challenged(&mut talk, "5");
        let good = proof(Algorithm::Md5, SECRET);
        let step = talk.send(TO_OPERATIONAL, &[("CHAP_N", "host"), ("CHAP_R", &good)]);
        assert_eq!(matches!(step, Step::Reply(_)), comes_in);
    }
}

/// Someone who has no secret tries to have the target compute the response.
#[test]
fn a_challenge_cannot_be_reflected() {
    let good = proof(Algorithm::Md5, SECRET);
    let reflected = hex(&CHALLENGE);
    let mutual = |challenge: &str, secrets: ChapSecrets| {
        let mut talk = talk(secrets);
        challenged(&mut talk, "5");
        let pairs = [
            ("CHAP_N", "host"),
            ("CHAP_R", good.as_str()),
            ("CHAP_I", "5"),
            ("CHAP_C", challenge),
        ];
        talk.send(TO_OPERATIONAL, &pairs)
    };
    assert_eq!(refused(mutual(&reflected, secrets())), FAILED);
    let one_secret = ChapSecrets {
        target: Some(user(None, "target", SECRET)),
        ..secrets()
    };
    assert_eq!(refused(mutual("0x0102", one_secret)), FAILED);
    let no_proof = ChapSecrets {
        target: None,
        ..secrets()
    };
    assert_eq!(refused(mutual("0x0102", no_proof)), FAILED);
    let too_long = format!("0x{}", "00".repeat(1025));
    assert_eq!(refused(mutual(&too_long, secrets())), BROKEN);
    assert!(
        matches!(mutual("0x0102", secrets()), Step::Reply(_)),
        "the proof itself is good"
    );
}

#[test]
fn a_challenge_is_good_for_one_response() {
    let good = proof(Algorithm::Md5, SECRET);
    let pairs = [("CHAP_N", "host"), ("CHAP_R", good.as_str())];
    let mut talk = talk(secrets());
    challenged(&mut talk, "5");
    reply(talk.send(STAY, &pairs));
    assert_eq!(refused(talk.send(STAY, &pairs)), BROKEN);
}

#[test]
fn the_order_cannot_be_changed() {
    let good = proof(Algorithm::Md5, SECRET);
    let proof = [("CHAP_N", "host"), ("CHAP_R", good.as_str())];
    let steps: [(&[Pair<'_>], &str); 3] = [
        (&proof, "a proof before the challenge"),
        (&[("CHAP_A", "5")], "an algorithm before the method"),
        (
            &[("CHAP_I", "1"), ("CHAP_C", "0x01")],
            "a challenge before ours",
        ),
    ];
    for (pairs, what) in steps {
        let step = talk(secrets()).send(STAY, &[WHO, pairs].concat());
        assert_eq!(refused(step), BROKEN, "{what}");
    }
    let mut again = talk(secrets());
    challenged(&mut again, "5");
    assert_eq!(
        refused(again.send(STAY, &[("CHAP_A", "5")])),
        BROKEN,
        "a second challenge"
    );
    let mut again = talk(secrets());
    challenged(&mut again, "5");
    let step = again.send(STAY, &[("AuthMethod", "CHAP")]);
    assert_eq!(refused(step), BROKEN, "a second method");
}

#[test]
fn nobody_gets_around_it() {
    let operational = form(Stage::OPERATIONAL, None);
    let to_the_end = form(Stage::SECURITY, Some(Stage::FULL_FEATURE));
    for form in [operational, TO_END] {
        assert_eq!(
            refused(talk(secrets()).send(form, WHO)),
            FAILED,
            "no security stage"
        );
    }
    for form in [TO_OPERATIONAL, to_the_end] {
        assert_eq!(
            refused(talk(secrets()).send(form, WHO)),
            FAILED,
            "no method"
        );
    }
    let none = [WHO, &[("AuthMethod", "None")]].concat();
    assert_eq!(refused(talk(secrets()).send(TO_OPERATIONAL, &none)), FAILED);
    let other = [WHO, &[("AuthMethod", "SRP,KRB5")]].concat();
    assert_eq!(refused(talk(secrets()).send(STAY, &other)), FAILED);
    let mut unknown = talk(secrets());
    reply(unknown.send(STAY, &[WHO, &[("AuthMethod", "CHAP")]].concat()));
    assert_eq!(refused(unknown.send(STAY, &[("CHAP_A", "6,8")])), FAILED);
    let mut hasty = talk(secrets());
    challenged(&mut hasty, "5");
    let stays = reply(hasty.send(to_the_end, &[]));
    assert!(!stays.header.form().transit);
    assert_eq!(refused(hasty.send(TO_END, &[])), BROKEN);
    let mut silent = talk(secrets());
    let stays = reply(silent.send(STAY, WHO));
    assert!(!stays.header.form().transit);
}

#[test]
fn without_secrets_nobody_is_asked() {
    let mut talk = Talk::new(Offer::default());
    let both = [WHO, &[("AuthMethod", "CHAP,None")]].concat();
    let first = reply(talk.send(TO_OPERATIONAL, &both));
    assert_eq!(answer(&first, "AuthMethod").as_deref(), Some("None"));
    assert_eq!(talk.finish(TO_END, &[]).0.user, None);
    let only = [WHO, &[("AuthMethod", "CHAP")]].concat();
    let step = Talk::new(Offer::default()).send(TO_OPERATIONAL, &only);
    assert_eq!(
        refused(step),
        FAILED,
        "it wants a proof that nobody can give"
    );
    let uninvited = [WHO, &[("CHAP_A", "5")]].concat();
    let step = Talk::new(Offer::default()).send(STAY, &uninvited);
    assert_eq!(refused(step), BROKEN);
}

#[test]
fn a_session_is_joined_by_the_user_who_began_it() {
    let (mut session, _) = Talk::new(Offer::default()).finish(TO_END, WHO);
    for (began, comes_in) in [
        (Some("host"), true),
        (Some("another"), false),
        (None, false),
    ] {
        session.user = began.map(str::to_owned);
        let mut talk = talk(secrets());
        talk.request.tsih = 42.into();
        talk.admission.session = Some(session.clone());
        challenged(&mut talk, "5");
        let good = proof(Algorithm::Md5, SECRET);
        let pairs = [("CHAP_N", "host"), ("CHAP_R", good.as_str())];
        reply(talk.send(TO_OPERATIONAL, &pairs));
        match talk.send(TO_END, &[]) {
            Step::Finished(_) => assert!(comes_in, "{began:?}"),
            step => {
                assert_eq!(refused(step), LoginStatus::NOT_AUTHORIZED);
                assert!(!comes_in, "{began:?}");
            }
        }
    }
}
