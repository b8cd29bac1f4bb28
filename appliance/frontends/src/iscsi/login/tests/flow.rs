//! Stages, headers, texts in pieces, names, sessions that are joined, refusals.

use super::super::{REQUESTS_MAX, TEXT_MAX_BYTES};
use super::*;

const BROKEN: LoginStatus = LoginStatus::INITIATOR_ERROR;

#[test]
fn the_first_request_tells_who_asks_for_what() {
    let mut login = Login::new(Offer::default(), fives);
    let mut first = request(STAY);
    first.cid = 3.into();
    first.tsih = 5.into();
    let pairs = [WHO, &[("InitiatorAlias", "Böx")]].concat();
    let step = login.receive(&first, &text(&pairs));
    let named = Named {
        initiator: "iqn.2005-03.org.example:host".to_owned(),
        initiator_alias: Some("Böx".to_owned()),
        target: Some("iqn.2026-11.io.bedplate:v".to_owned()),
        discovery: false,
        isid: ISID,
        tsih: 5,
        cid: 3,
    };
    assert_eq!(step, Step::Named(named.clone()));
    assert_eq!(login.named(), Some(&named));
}

#[test]
fn the_first_request_has_to_say_enough() {
    let (who, target) = (WHO[0], WHO[1]);
    let long = "a".repeat(224);
    let table: [(&[Pair<'_>], LoginStatus); 11] = [
        (&[], LoginStatus::MISSING_PARAMETER),
        (&[who], LoginStatus::MISSING_PARAMETER),
        (&[target], LoginStatus::MISSING_PARAMETER),
        (
            &[who, ("SessionType", "Normal")],
            LoginStatus::MISSING_PARAMETER,
        ),
        (
            &[target, ("SessionType", "Discovery")],
            LoginStatus::MISSING_PARAMETER,
        ),
        (
            &[who, target, ("SessionType", "Odd")],
            LoginStatus::SESSION_TYPE,
        ),
        (&[who, who, target], BROKEN),
        (&[who, target, target], BROKEN),
        (&[who, ("TargetName", "")], BROKEN),
        (&[who, ("TargetName", "iqn.a b")], BROKEN),
        (&[("InitiatorName", &long), target], BROKEN),
    ];
    for (pairs, expected) in table {
        let mut login = Login::new(Offer::default(), fives);
        let step = login.receive(&request(STAY), &text(pairs));
        assert_eq!(refused(step), expected, "{pairs:?}");
    }
    let mut login = Login::new(Offer::default(), fives);
    let step = login.receive(&request(STAY), b"InitiatorName=a");
    assert_eq!(refused(step), BROKEN, "text that is cut off");
}

#[test]
fn names_have_no_case() {
    let pairs = [("InitiatorName", "IQN.Host"), ("TargetName", "iqn.V")];
    let mut talk = Talk::new(Offer::default());
    reply(talk.send(form(Stage::OPERATIONAL, None), &pairs));
    let again = [("InitiatorName", "iqn.HOST"), ("TargetName", "IQN.v")];
    let (negotiated, _) = talk.finish(TO_END, &again);
    assert_eq!(negotiated.named.initiator, "iqn.host");
    assert_eq!(negotiated.named.target.as_deref(), Some("iqn.v"));
}

#[test]
fn flags_of_a_first_request() {
    let flags = |transit, continues, current, next| LoginFlags {
        transit,
        continues,
        current: Stage(current),
        next: Stage(next),
    };
    let good = [
        flags(false, false, 0, 0),
        flags(true, false, 0, 1),
        flags(true, false, 0, 3),
        flags(true, false, 1, 3),
        flags(false, false, 1, 0),
        flags(false, true, 0, 0),
    ];
    for form in good {
        let step = Talk::new(Offer::default()).send(form, WHO);
        assert!(
            matches!(step, Step::Reply(_) | Step::Finished(_)),
            "{form:?}: {step:?}"
        );
    }
    let bad = [
        flags(true, true, 0, 1),
        flags(true, false, 0, 0),
        flags(true, false, 0, 2),
        flags(true, false, 1, 0),
        flags(true, false, 1, 1),
        flags(true, false, 1, 2),
        flags(false, false, 2, 0),
        flags(false, false, 3, 0),
        flags(true, false, 3, 3),
    ];
    for form in bad {
        let step = Talk::new(Offer::default()).send(form, WHO);
        assert_eq!(refused(step), BROKEN, "{form:?}");
    }
}

#[test]
fn the_version_is_zero() {
    let mut talk = Talk::new(Offer::default());
    talk.request.version_max = 9;
    reply(talk.send(STAY, WHO));
    let mut talk = Talk::new(Offer::default());
    (talk.request.version_max, talk.request.version_min) = (9, 1);
    assert_eq!(
        refused(talk.send(STAY, WHO)),
        LoginStatus::UNSUPPORTED_VERSION
    );
}

#[test]
fn stages_follow_one_another() {
    let mut talk = Talk::new(Offer::default());
    let first = reply(talk.send(TO_OPERATIONAL, &[WHO, &[("AuthMethod", "None")]].concat()));
    assert_eq!(first.header.form(), TO_OPERATIONAL);
    assert_eq!(first.header.tsih.get(), 0, "only the last response has it");
    let (_, last) = talk.finish(TO_END, &[]);
    assert_eq!(last.header.form(), TO_END);
    assert_eq!(last.header.tsih.get(), 42);
    for back in [STAY, TO_OPERATIONAL] {
        let mut talk = Talk::new(Offer::default());
        reply(talk.send(TO_OPERATIONAL, WHO));
        assert_eq!(refused(talk.send(back, &[])), BROKEN, "back to security");
    }
    let mut talk = Talk::new(Offer::default());
    reply(talk.send(STAY, WHO));
    assert_eq!(refused(talk.send(TO_END, &[])), BROKEN, "not left yet");
}

#[test]
fn the_end_can_come_right_after_security() {
    let form = form(Stage::SECURITY, Some(Stage::FULL_FEATURE));
    let (negotiated, last) = Talk::new(Offer::default()).finish(form, WHO);
    assert_eq!(last.header.form(), form);
    assert_eq!(
        negotiated.max_recv_data_bytes, 8192,
        "nothing else was declared"
    );
    let strict = Offer {
        immediate_data: false,
        ..Offer::default()
    };
    let detour = reply(Talk::new(strict).send(form, WHO));
    assert_eq!(
        detour.header.form(),
        TO_OPERATIONAL,
        "there is something to offer"
    );
}

#[test]
fn numbers_go_on_with_each_response() {
    let mut talk = Talk::new(Offer {
        command_window: 32,
        ..Offer::default()
    });
    let first = reply(talk.send(TO_OPERATIONAL, WHO)).header;
    let numbers = (
        first.stat_sn.get(),
        first.exp_cmd_sn.get(),
        first.max_cmd_sn.get(),
    );
    assert_eq!(numbers, (7, 100, 131));
    assert_eq!((first.itt.get(), first.isid), (9, ISID));
    let (negotiated, last) = talk.finish(TO_END, &[]);
    assert_eq!(last.header.stat_sn.get(), 8);
    assert_eq!((negotiated.stat_sn, negotiated.cmd_sn), (8, 100));
}

#[test]
fn requests_of_a_login_belong_together() {
    type Change = fn(&mut LoginRequest);
    let changes: [Change; 3] = [
        |request| request.isid[5] = 9,
        |request| request.tsih = 1.into(),
        |request| request.cid = 2.into(),
    ];
    for change in changes {
        let mut talk = Talk::new(Offer::default());
        reply(talk.send(STAY, WHO));
        change(&mut talk.request);
        assert_eq!(refused(talk.send(STAY, &[])), BROKEN);
    }
}

#[test]
fn text_can_come_in_pieces() {
    let whole = text(&[WHO, &[("MaxBurstLength", "65536")]].concat());
    let mut talk = Talk::new(Offer::default());
    let more = LoginFlags {
        continues: true,
        ..form(Stage::OPERATIONAL, None)
    };
    for piece in whole.chunks(10) {
        let reply = reply(talk.raw(more, piece));
        assert!(reply.text.is_empty(), "nothing is answered before the end");
        assert_eq!(reply.header.form(), form(Stage::OPERATIONAL, None));
    }
    let (negotiated, last) = talk.finish(TO_END, &[]);
    assert_eq!(negotiated.max_burst_bytes, 65_536);
    assert_eq!(answer(&last, "MaxBurstLength").as_deref(), Some("65536"));
}

#[test]
fn memory_and_time_are_bounded() {
    let more = LoginFlags {
        continues: true,
        ..STAY
    };
    let mut talk = Talk::new(Offer::default());
    for _ in 0..TEXT_MAX_BYTES / 4096 {
        reply(talk.raw(more, &[b'A'; 4096]));
    }
    assert_eq!(refused(talk.raw(more, b"A")), BROKEN);
    let mut talk = Talk::new(Offer::default());
    reply(talk.send(STAY, WHO));
    for _ in 1..REQUESTS_MAX {
        reply(talk.send(STAY, &[]));
    }
    assert_eq!(refused(talk.send(STAY, &[])), BROKEN);
}

#[test]
fn after_its_end_a_login_only_refuses() {
    let mut talk = Talk::new(Offer::default());
    assert_eq!(
        refused(talk.send(STAY, &[])),
        LoginStatus::MISSING_PARAMETER
    );
    assert_eq!(refused(talk.send(STAY, WHO)), BROKEN);
    let mut talk = Talk::new(Offer::default());
    talk.finish(TO_END, WHO);
    assert_eq!(refused(talk.send(TO_END, &[])), BROKEN);
    assert_eq!(
        talk.login.finish(1).header.status(),
        LoginStatus::TARGET_ERROR
    );
    let early = talk.login.proceed(Admission::default());
    assert_eq!(refused(early), LoginStatus::TARGET_ERROR);
}

#[test]
fn the_caller_can_refuse_or_redirect() {
    let mut login = Login::new(Offer::default(), fives);
    login.receive(&request(STAY), &text(WHO));
    let reply = login.refuse(LoginStatus::NOT_FOUND);
    assert_eq!(
        (reply.header.status_class, reply.header.status_detail),
        (2, 3)
    );
    for (permanent, detail) in [(false, 1), (true, 2)] {
        let mut login = Login::new(Offer::default(), fives);
        login.receive(&request(STAY), &text(WHO));
        let reply = login.redirect("[2001:db8::1]:3260,1", permanent);
        assert_eq!(
            (reply.header.status_class, reply.header.status_detail),
            (1, detail)
        );
        let address = answer(&reply, "TargetAddress");
        assert_eq!(address.as_deref(), Some("[2001:db8::1]:3260,1"));
        assert!(!reply.header.form().transit);
    }
    let mut talk = Talk::new(Offer::default());
    let Step::Finished(_) = talk.send(TO_END, WHO) else {
        panic!("not finished");
    };
    let reply = talk.login.refuse(LoginStatus::OUT_OF_RESOURCES);
    assert_eq!(reply.header.status(), LoginStatus::OUT_OF_RESOURCES);
}

#[test]
fn an_alias_goes_out_once() {
    let mut talk = Talk::new(Offer::default());
    talk.admission.target_alias = Some("volume".to_owned());
    let first = reply(talk.send(TO_OPERATIONAL, WHO));
    assert_eq!(answer(&first, "TargetAlias").as_deref(), Some("volume"));
    assert_eq!(answer(&first, "TargetPortalGroupTag").as_deref(), Some("1"));
    let (_, last) = talk.finish(TO_END, &[]);
    assert_eq!(answer(&last, "TargetAlias"), None);
    assert_eq!(answer(&last, "TargetPortalGroupTag"), None);
}

/// A second connection of the session that `first` made.
fn join(first: &Negotiated) -> Talk {
    let mut talk = Talk::new(Offer::default());
    talk.request.tsih = 42.into();
    talk.request.cid = 2.into();
    talk.admission.session = Some(first.clone());
    talk
}

fn session() -> Negotiated {
    let pairs = [
        ("MaxBurstLength", "65536"),
        ("InitialR2T", "No"),
        ("HeaderDigest", "CRC32C"),
    ];
    negotiate(Offer::default(), WHO, &pairs).0
}

#[test]
fn a_connection_joins_with_the_keys_of_its_session() {
    let mut talk = join(&session());
    let pairs = [
        ("DataDigest", "CRC32C"),
        ("MaxRecvDataSegmentLength", "4096"),
    ];
    let Step::Finished(negotiated) = talk.send(TO_END, &[WHO, &pairs].concat()) else {
        panic!("not finished");
    };
    assert_eq!(talk.login.finish(42).header.tsih.get(), 42);
    assert_eq!(negotiated.max_burst_bytes, 65_536);
    assert!(!negotiated.initial_r2t);
    assert!(
        negotiated.digests.data && !negotiated.digests.header,
        "each connection has its own"
    );
    assert_eq!(negotiated.max_send_data_bytes, 4096);
    assert_eq!((negotiated.named.tsih, negotiated.named.cid), (42, 2));
}

#[test]
fn the_keys_of_a_session_are_not_negotiated_again() {
    let same = [WHO, &[("MaxBurstLength", "65536"), ("InitialR2T", "No")]].concat();
    let Step::Finished(_) = join(&session()).send(TO_END, &same) else {
        panic!("the same values are fine");
    };
    for pair in [
        ("MaxBurstLength", "4096"),
        ("InitialR2T", "Yes"),
        ("DefaultTime2Wait", "9"),
    ] {
        let step = join(&session()).send(TO_END, &[WHO, &[pair]].concat());
        assert_eq!(refused(step), BROKEN, "{pair:?}");
    }
}

#[test]
fn only_the_same_initiator_joins() {
    type Change = fn(&mut Negotiated);
    let changes: [Change; 3] = [
        |session| session.named.initiator.push('x'),
        |session| session.named.target = Some("iqn.other".to_owned()),
        |session| session.named.isid[0] = 0,
    ];
    for change in changes {
        let mut session = session();
        change(&mut session);
        let step = join(&session).send(TO_END, WHO);
        assert_eq!(refused(step), LoginStatus::CANNOT_INCLUDE);
    }
    let mut talk = join(&session());
    talk.admission.session = None;
    assert_eq!(refused(talk.send(TO_END, WHO)), LoginStatus::NO_SESSION);
}
