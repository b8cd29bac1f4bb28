//! The rules of the standards, one table each; then every sequence of commands against a model.

mod access;
mod commands;
mod model;
mod shared;

use std::collections::BTreeSet;

use super::*;

fn scsi(port: &str, target_port: u16) -> Identity {
    Identity::Scsi {
        initiator_port: format!("iqn.2026-11.example:{port},i,0x000000000001"),
        target_port,
    }
}

fn nvme(byte: u8) -> Identity {
    Identity::Nvme {
        host_id: [byte; 16],
    }
}

/// One of SCSI, one of NVMe, and two more.
fn hosts() -> [Identity; 4] {
    [scsi("a", 1), nvme(0xb), scsi("c", 1), nvme(0xd)]
}

/// The key that host `n` registers with in these tests.
fn key(n: usize) -> u64 {
    0x100 + n as u64
}

fn register(key: u64) -> Action {
    Action::Register {
        current: Current::Ignored,
        key,
        also: Vec::new(),
        all_ports: false,
        persist: None,
    }
}

fn ports() -> BTreeSet<u16> {
    BTreeSet::from([1, 2])
}

fn apply(state: &State, who: &Identity, action: &Action) -> Result<Change, Refusal> {
    state.apply(who, action, &ports())
}

fn must(state: &State, who: &Identity, action: &Action) -> Change {
    apply(state, who, action).unwrap_or_else(|refusal| panic!("{action:?}: {refusal:?}"))
}

/// The first `count` hosts registered, each with its own key.
fn registered(count: usize) -> State {
    let mut state = State::default();
    for (n, host) in hosts().iter().enumerate().take(count) {
        state = must(&state, host, &register(key(n))).state;
    }
    state
}

/// As `registered`, and the first one has reserved.
fn reserved(count: usize, kind: Kind) -> State {
    let reserve = Action::Reserve { key: key(0), kind };
    must(&registered(count), &hosts()[0], &reserve).state
}
