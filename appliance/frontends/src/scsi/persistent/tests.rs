//! Command descriptor blocks and parameter lists in, statuses and data out, on two nexuses and an
//! NVMe host.

use std::time::Duration;

use reactor::sim::{World, WorldOptions};
use volume::testing::memory_volume;
use wire::scsi::Status;

use super::super::{AbortCause, LogicalUnit, NexusPort, PortNames, reserve6};
use super::*;
use crate::reservation::{Access, Listener, Notice, Participant, REGISTRANTS_MAX};

const A: &str = "iqn.2026-11.example:a,i,0x800000000001";
const B: &str = "iqn.2026-11.example:b,i,0x800000000002";
const HOST: [u8; 16] = *b"nvme-host-number";

struct Port;

impl NexusPort for Port {
    fn abort_tasks(&self, _cause: AbortCause) -> usize {
        0
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn close(&self) {}
}

struct Silent;

impl Listener for Silent {
    fn notify(&self, _notice: Notice) {}

    fn abort_tasks(&self) {}

    fn is_settled(&self) -> bool {
        true
    }
}

struct Stage {
    a: Rc<Nexus>,
    b: Rc<Nexus>,
    nvme: Rc<Participant>,
    _port: Rc<dyn NexusPort>,
}

impl Stage {
    async fn new() -> Self {
        let volume = memory_volume(64, 512);
        let reservations = Reservations::load(volume.clone()).await;
        let unit = LogicalUnit::new(volume, reservations.clone());
        let port: Rc<dyn NexusPort> = Rc::new(Port);
        let nexus = |name: &str| {
            let names = PortNames {
                initiator_port: name.to_owned(),
                target: "iqn.2026-11.io.bedplate:memory".to_owned(),
                target_port: 1,
            };
            unit.attach(Rc::downgrade(&port), names)
        };
        let silent: Rc<dyn Listener> = Rc::new(Silent);
        let host = Identity::Nvme { host_id: HOST };
        Self {
            a: nexus(A),
            b: nexus(B),
            nvme: reservations.attach(host, Rc::downgrade(&silent)),
            _port: port,
        }
    }
}

fn run<F: Future<Output = ()> + 'static>(main: impl Fn(Stage) -> F + 'static) {
    let mut world = World::new(1, WorldOptions::default());
    let main = Rc::new(main);
    let ended = world.run_once("target", Duration::from_secs(60), move || {
        let main = main.clone();
        async move { main(Stage::new().await).await }
    });
    assert!(ended.is_some(), "it stands still");
}

fn out_cdb(action: OutAction, kind: u8, list_bytes: usize) -> Cdb {
    let mut cdb = [0; 16];
    cdb[..3].copy_from_slice(&[0x5f, action.0, kind]);
    cdb[5..9].copy_from_slice(&(list_bytes as u32).to_be_bytes());
    cdb
}

fn list(key: u64, action_key: u64, flags: u8) -> Vec<u8> {
    let mut list = vec![0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&action_key.to_be_bytes());
    list[20] = flags;
    list
}

async fn out_list(nexus: &Rc<Nexus>, action: OutAction, kind: u8, list: &[u8]) -> Outcome {
    let cdb = out_cdb(action, kind, list.len());
    if let Err(outcome) = plan_out(nexus, &cdb) {
        return outcome;
    }
    let mut buf = reactor::buf::alloc(list.len()).await;
    buf.as_mut()[..list.len()].copy_from_slice(list);
    execute_out(nexus, cdb, Some(buf)).await
}

async fn out(nexus: &Rc<Nexus>, action: OutAction, kind: u8, keys: (u64, u64)) -> Outcome {
    out_list(nexus, action, kind, &list(keys.0, keys.1, 0)).await
}

async fn good(nexus: &Rc<Nexus>, action: OutAction, kind: u8, keys: (u64, u64)) {
    let outcome = out(nexus, action, kind, keys).await;
    assert!(outcome.is_good(), "{action:?}: {outcome:?}");
}

async fn read(nexus: &Rc<Nexus>, action: InAction, allocation_bytes: u16) -> Vec<u8> {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[0x5e, action.0]);
    cdb[7..9].copy_from_slice(&allocation_bytes.to_be_bytes());
    let transfer = plan_in(nexus, &cdb).expect("planned");
    let len_bytes = allocation_bytes.into();
    assert_eq!(transfer, Transfer::ToHost { len_bytes });
    let outcome = execute_in(nexus, cdb).await;
    assert!(outcome.is_good(), "{outcome:?}");
    outcome.data.map_or(Vec::new(), |data| data.to_vec())
}

fn code(outcome: &Outcome) -> u16 {
    outcome.sense.map_or(0, |sense| sense.code.0)
}

#[test]
fn keys_reservation_and_full_status_show_everybody() {
    run(|stage| async move {
        let Stage { a, b, nvme, .. } = &stage;
        good(a, OutAction::REGISTER, 0, (0, 0xa)).await;
        let host = Action::Register {
            current: Current::NoneOrNew,
            key: 0xb,
            also: Vec::new(),
            all_ports: false,
            persist: None,
        };
        let changed = nvme.reservations().change(nvme, host).await;
        assert_eq!(changed, Ok(()));
        let mut expected = vec![0, 0, 0, 2, 0, 0, 0, 16];
        expected.extend(0xa_u64.to_be_bytes());
        expected.extend(0xb_u64.to_be_bytes());
        assert_eq!(read(b, InAction::READ_KEYS, 16384).await, expected);
        assert_eq!(read(b, InAction::READ_KEYS, 8).await, expected[..8]);
        assert!(read(b, InAction::READ_KEYS, 0).await.is_empty());

        good(a, OutAction::RESERVE, 7, (0xa, 0)).await;
        let held = read(b, InAction::READ_RESERVATION, 64).await;
        assert_eq!(held[4..8], [0, 0, 0, 16]);
        assert_eq!(
            (&held[8..16], held[21]),
            (&[0; 8][..], 7),
            "all registrants: no key"
        );

        let full = read(b, InAction::READ_FULL_STATUS, 4096).await;
        let text = String::from_utf8_lossy(&full).into_owned();
        assert!(text.contains(A), "{text}");
        let uuid = "nvme-host:6e766d65-2d68-6f73-742d-6e756d626572";
        assert!(text.contains(uuid), "{text}");
        assert_eq!((full[20], full[21]), (1, 7), "a holder");

        good(b, OutAction::REGISTER, 0, (0, 0xc)).await;
        good(b, OutAction::CLEAR, 0, (0xc, 0)).await;
        let keys = read(a, InAction::READ_KEYS, 64).await;
        assert_eq!(keys, [0, 0, 0, 4, 0, 0, 0, 0]);
    });
}

#[test]
fn each_refusal_has_its_status() {
    run(|stage| async move {
        let Stage { a, b, .. } = &stage;
        use OutAction as O;
        good(a, O::REGISTER, 0, (0, 1)).await;
        good(b, O::REGISTER, 0, (0, 2)).await;
        good(a, O::RESERVE, 1, (1, 0)).await;
        let conflicts = [
            (O::REGISTER, 0, (9, 3)),
            (O::RESERVE, 1, (2, 0)),
            (O::RELEASE, 1, (9, 0)),
            (O::CLEAR, 0, (9, 0)),
            (O::PREEMPT, 1, (2, 0xdead)),
            (O::PREEMPT_AND_ABORT, 1, (9, 1)),
        ];
        for (action, kind, keys) in conflicts {
            let outcome = out(b, action, kind, keys).await;
            assert_eq!(outcome.status, Status::RESERVATION_CONFLICT, "{action:?}");
            assert_eq!(code(&outcome), 0);
        }
        let checks = [
            (O::RELEASE, 3, (1, 0), 0x2604),
            (O::RELEASE, 0x1f, (1, 0), 0x2604),
            (O::RESERVE, 2, (1, 0), 0x2400),
            (O::RESERVE, 0x11, (1, 0), 0x2400),
            (O::PREEMPT, 2, (1, 1), 0x2400),
            (O::PREEMPT, 1, (1, 0), 0x2600),
            (O(0x08), 1, (1, 0), 0x2400),
            (O(0x1f), 1, (1, 0), 0x2400),
        ];
        for (action, kind, keys, expected) in checks {
            let outcome = out(a, action, kind, keys).await;
            assert_eq!(code(&outcome), expected, "{action:?} {kind:#x} {outcome:?}");
        }
        for len in [0, 23, 25, 28, 8193] {
            let mut long = list(1, 0, 0);
            long.resize(len, 0);
            let outcome = out_list(a, O::CLEAR, 0, &long).await;
            assert_eq!(code(&outcome), 0x1a00, "{len} bytes");
        }
        let outcome = out_list(a, O::CLEAR, 0, &list(1, 0, 1 << 3)).await;
        assert_eq!(code(&outcome), 0x2600, "SPEC_I_PT is of REGISTER alone");
        let short = execute_out(a, out_cdb(O::CLEAR, 0, 24), None).await;
        assert_eq!(code(&short), 0x1a00, "the transport brought less");
        for action in 4..0x20 {
            let mut cdb = [0; 16];
            cdb[..2].copy_from_slice(&[0x5e, action]);
            let refused = plan_in(a, &cdb).expect_err("reserved");
            assert_eq!(code(&refused), 0x2400);
        }
    });
}

#[test]
fn too_many_registrants_are_refused_as_the_standard_says() {
    run(|stage| async move {
        let Stage { a, nvme, .. } = &stage;
        for n in 0..REGISTRANTS_MAX {
            let name = format!("iqn.2026-11.example:{n},i,0x000000000001");
            let mut flags = list(0, 7, 1 << 3);
            let mut id = vec![0; 256];
            let mut writer = Writer::new(&mut id);
            TransportId::of_name(&name).encode(&mut writer);
            let len = writer.len();
            flags.extend((len as u32).to_be_bytes());
            flags.extend(&id[..len]);
            let outcome = out_list(a, OutAction::REGISTER, 0, &flags).await;
            // The sender takes a place too, and leaves it again.
            let expected = if n + 1 == REGISTRANTS_MAX { 0x5504 } else { 0 };
            assert_eq!(code(&outcome), expected, "{n}");
            if expected == 0 {
                good(a, OutAction::REGISTER, 0, (7, 0)).await;
            }
        }
        let state = nvme.reservations().state();
        assert_eq!(state.registrants().len(), REGISTRANTS_MAX - 1);
    });
}

/// SPEC_I_PT with both formats of a TransportID, and the name of an NVMe host.
#[test]
fn others_are_registered_by_their_transport_ids() {
    run(|stage| async move {
        let Stage { a, b, nvme, .. } = &stage;
        let nvme_name = nvme.identity.scsi_name();
        for (named, who) in [
            (B, &b.participant().identity),
            (
                &B.to_ascii_uppercase().replace("I,0X", "i,0x")[..],
                &b.participant().identity,
            ),
            ("iqn.2026-11.example:b", &b.participant().identity),
            (&nvme_name, &nvme.identity),
        ] {
            let mut id = vec![0; 256];
            let mut writer = Writer::new(&mut id);
            TransportId::of_name(named).encode(&mut writer);
            let len = writer.len();
            let mut parameters = list(0, 5, 1 << 3);
            parameters.extend((len as u32).to_be_bytes());
            parameters.extend(&id[..len]);
            let outcome = out_list(a, OutAction::REGISTER, 0, &parameters).await;
            assert!(outcome.is_good(), "{named}: {outcome:?}");
            let found = nvme.reservations().state().key_of(who);
            assert_eq!(found, Some(5), "{named}");
            let again = out_list(a, OutAction::REGISTER, 0, &parameters).await;
            assert_eq!(
                again.status,
                Status::RESERVATION_CONFLICT,
                "the key is another"
            );
            good(a, OutAction::CLEAR, 0, (5, 0)).await;
        }
        let mut unknown = list(0, 5, 1 << 3);
        unknown.extend([0, 0, 0, 24, 5, 0, 0, 20]);
        unknown.extend(b"iqn.nobody\0\0\0\0\0\0\0\0\0\0");
        let outcome = out_list(a, OutAction::REGISTER, 0, &unknown).await;
        assert_eq!(code(&outcome), 0x2600, "a device of which no port is known");
        assert!(!nvme.reservations().state().is_used());
    });
}

#[test]
fn a_reservation_moves_to_an_nvme_host() {
    run(|stage| async move {
        let Stage { a, b, nvme, .. } = &stage;
        good(a, OutAction::REGISTER, 0, (0, 1)).await;
        let name = nvme.identity.scsi_name();
        let mut id = vec![0; 256];
        let mut writer = Writer::new(&mut id);
        TransportId::of_name(&name).encode(&mut writer);
        let len = writer.len();
        let mut parameters = list(1, 6, 0);
        parameters[17] = 2;
        parameters[20..24].copy_from_slice(&(len as u32).to_be_bytes());
        parameters.extend(&id[..len]);
        let early = out_list(a, OutAction::REGISTER_AND_MOVE, 0, &parameters).await;
        assert_eq!(code(&early), 0x2400, "there is no reservation");
        good(a, OutAction::RESERVE, 1, (1, 0)).await;
        let outcome = out_list(a, OutAction::REGISTER_AND_MOVE, 0, &parameters).await;
        assert!(outcome.is_good(), "{outcome:?}");
        assert!(nvme.check(Access::Write).is_ok());
        for nexus in [a, b] {
            assert!(nexus.participant().check(Access::Write).is_err());
        }
        let state = nvme.reservations().state();
        assert!(state.is_holder(&nvme.identity) && state.registrants().len() == 1);
    });
}

#[test]
fn spc_2_reservations_and_persistent_ones_exclude_each_other() {
    run(|stage| async move {
        let Stage { a, b, nvme, .. } = &stage;
        let cdb = |opcode: u8| {
            let mut cdb = [0; 16];
            cdb[0] = opcode;
            cdb
        };
        for (reserve, release) in [(0x16, 0x17), (0x56, 0x57)] {
            assert!(reserve6::reserve(a, cdb(reserve)).is_good());
            assert!(reserve6::reserve(a, cdb(reserve)).is_good());
            let conflict = reserve6::reserve(b, cdb(reserve));
            assert_eq!(conflict.status, Status::RESERVATION_CONFLICT);
            assert!(reserve6::release(b, cdb(release)).is_good(), "no effect");
            assert!(nvme.check(Access::Read).is_err());
            for nexus in [a, b] {
                let conflict = out(nexus, OutAction::REGISTER, 0, (0, 1)).await;
                assert_eq!(conflict.status, Status::RESERVATION_CONFLICT);
                let mut keys = cdb(0x5e);
                keys[8] = 64;
                let conflict = execute_in(nexus, keys).await;
                assert_eq!(conflict.status, Status::RESERVATION_CONFLICT);
            }
            assert!(reserve6::release(a, cdb(release)).is_good());
            assert!(nvme.check(Access::Write).is_ok());
        }
        let mut third_party = cdb(0x16);
        third_party[1] = 0x10;
        assert_eq!(code(&reserve6::reserve(a, third_party)), 0x2400);
        let mut extent = cdb(0x17);
        extent[4] = 8;
        assert_eq!(code(&reserve6::release(a, extent)), 0x2400);
        good(a, OutAction::REGISTER, 0, (0, 1)).await;
        for nexus in [a, b] {
            for opcode in [0x16, 0x56] {
                let conflict = reserve6::reserve(nexus, cdb(opcode));
                assert_eq!(conflict.status, Status::RESERVATION_CONFLICT);
            }
            let conflict = reserve6::release(nexus, cdb(0x17));
            assert_eq!(conflict.status, Status::RESERVATION_CONFLICT);
        }
    });
}

/// APTPL is seen where it was asked for.
#[test]
fn capabilities_tell_whether_it_persists() {
    run(|stage| async move {
        let Stage { a, .. } = &stage;
        let persisting = out_list(a, OutAction::REGISTER, 0, &list(0, 1, 1)).await;
        assert!(persisting.is_good());
        let found = read(a, InAction::REPORT_CAPABILITIES, 8).await;
        assert_eq!(found, [0, 8, 0b1101, 0x81, 0xea, 0x01, 0, 0]);
        good(a, OutAction::REGISTER_AND_IGNORE_EXISTING_KEY, 0, (0, 1)).await;
        let found = read(a, InAction::REPORT_CAPABILITIES, 8).await;
        assert_eq!(found[3], 0x80);
    });
}
