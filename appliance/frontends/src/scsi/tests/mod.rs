//! Commands in, statuses, sense data and parameter data out: a unit of memory with two nexuses.

mod alone;
mod blocks;
mod checks;
mod fields;
mod manage;
mod mode;
mod provisioning;
mod vital;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use reactor::sim::{World, WorldOptions};
use volume::testing::memory_volume;
use wire::scsi::{Sense, SenseCode, SenseKey, Status};

use super::{AbortCause, LogicalUnit, Nexus, NexusPort, Outcome, PortNames, Transfer};
use crate::reservation::Reservations;

/// Blocks of the unit.
pub(super) const BLOCKS: u64 = 100_000;
/// LUN 0.
pub(super) const LUN: [u8; 8] = [0; 8];

/// A transport that has `tasks` tasks, which settle after some looks.
#[derive(Default)]
pub(super) struct Port {
    pub tasks: Cell<usize>,
    pub causes: RefCell<Vec<AbortCause>>,
    pub looks: Cell<usize>,
    pub is_closed: Cell<bool>,
}

impl NexusPort for Port {
    fn abort_tasks(&self, cause: AbortCause) -> usize {
        self.causes.borrow_mut().push(cause);
        self.tasks.take()
    }

    fn is_settled(&self) -> bool {
        let left = self.looks.get();
        self.looks.set(left.saturating_sub(1));
        left == 0
    }

    fn close(&self) {
        self.is_closed.set(true);
    }
}

/// One end: a nexus and its port.
#[derive(Clone)]
pub(super) struct End {
    pub nexus: Rc<Nexus>,
    pub port: Rc<Port>,
}

/// A unit and two hosts.
pub(super) struct Stage {
    pub unit: Rc<LogicalUnit>,
    pub a: End,
    pub b: End,
}

impl Stage {
    async fn new(block_bytes: u32) -> Self {
        let volume = memory_volume(BLOCKS, block_bytes);
        let reservations = Reservations::load(volume.clone()).await;
        let unit = LogicalUnit::new(volume, reservations);
        let [a, b] = ["a", "b"].map(|name| attach(&unit, name, 1));
        Self { unit, a, b }
    }

    /// Both hosts have heard of what was pending.
    pub async fn settled(block_bytes: u32) -> Self {
        let stage = Self::new(block_bytes).await;
        for end in [&stage.a, &stage.b] {
            assert!(end.command(&[0; 6]).await.sense.is_some());
        }
        stage
    }
}

/// A session of host `name` through port `target_port`.
pub(super) fn attach(unit: &Rc<LogicalUnit>, name: &str, target_port: u16) -> End {
    let port = Rc::new(Port::default());
    let weak = Rc::downgrade(&port);
    let names = PortNames {
        initiator_port: format!("iqn.2026-11.example:{name},i,0x800000000001"),
        target: "iqn.2026-11.io.bedplate:memory".to_owned(),
        target_port,
    };
    End {
        nexus: unit.attach(weak, names),
        port,
    }
}

impl End {
    /// Runs a command without data from the host.
    pub async fn command(&self, cdb: &[u8]) -> Outcome {
        self.send(cdb, &[]).await
    }

    /// Runs a command with `data`, which must be as long as the plan says.
    pub async fn send(&self, cdb: &[u8], data: &[u8]) -> Outcome {
        self.send_to(LUN, cdb, data).await
    }

    /// The same for any LUN.
    pub async fn send_to(&self, lun: [u8; 8], cdb: &[u8], data: &[u8]) -> Outcome {
        let mut plan = match self.nexus.plan(lun, cdb) {
            Ok(plan) => plan,
            Err(outcome) => return outcome,
        };
        if let Err(outcome) = plan.fit(data.len() as u32) {
            return outcome;
        }
        let Transfer::FromHost { len_bytes } = plan.transfer() else {
            return self.nexus.execute(plan, None).await;
        };
        let mut buf = reactor::buf::alloc(len_bytes as usize).await;
        buf.as_mut().copy_from_slice(&data[..len_bytes as usize]);
        self.nexus.execute(plan, Some(buf)).await
    }

    /// Runs a command that must be GOOD; returns its data.
    pub async fn good(&self, cdb: &[u8]) -> Vec<u8> {
        let outcome = self.command(cdb).await;
        assert!(outcome.is_good(), "{cdb:02x?}: {outcome:?}");
        outcome.data.map_or(Vec::new(), |data| data.to_vec())
    }

    /// Sends data, which must be GOOD.
    pub async fn good_out(&self, cdb: &[u8], data: &[u8]) {
        let outcome = self.send(cdb, data).await;
        assert!(outcome.is_good(), "{cdb:02x?}: {outcome:?}");
    }

    /// The sense data of a command that must fail.
    pub async fn refused(&self, cdb: &[u8]) -> Sense {
        sense_of(&self.command(cdb).await)
    }

    /// The sense data of a command with data that must fail.
    pub async fn refused_out(&self, cdb: &[u8], data: &[u8]) -> Sense {
        sense_of(&self.send(cdb, data).await)
    }
}

pub(super) fn sense_of(outcome: &Outcome) -> Sense {
    assert_eq!(outcome.status, Status::CHECK_CONDITION, "{outcome:?}");
    assert!(outcome.data.is_none());
    outcome.sense.expect("CHECK CONDITION has sense data")
}

/// (key, code) of sense data.
pub(super) fn code(sense: Sense) -> (u8, u16) {
    (sense.key.0, sense.code.0)
}

/// A READ or WRITE of 16 bytes.
pub(super) fn rw16(opcode: u8, flags: u8, lba: u64, block_count: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&block_count.to_be_bytes());
    cdb
}

/// Bytes that differ from block to block.
pub(super) fn pattern(blocks: usize, block_bytes: usize, seed: u8) -> Vec<u8> {
    let byte = |at: usize| (at / block_bytes) as u8 ^ (at % 251) as u8 ^ seed;
    (0..blocks * block_bytes).map(byte).collect()
}

pub(super) fn run_with<F: Future<Output = ()> + 'static>(
    block_bytes: u32,
    main: impl Fn(Stage) -> F + 'static,
) {
    let mut world = World::new(1, WorldOptions::default());
    let main = Rc::new(main);
    let ended = world.run_once("target", Duration::from_secs(600), move || {
        let main = main.clone();
        async move { main(Stage::settled(block_bytes).await).await }
    });
    assert!(ended.is_some(), "it stands still");
}

/// Runs a test on a unit with blocks of 512 bytes, of which both hosts have heard.
pub(super) fn run<F: Future<Output = ()> + 'static>(main: impl Fn(Stage) -> F + 'static) {
    run_with(512, main);
}

const ILLEGAL: u8 = SenseKey::ILLEGAL_REQUEST.0;
const INVALID_CDB: (u8, u16) = (ILLEGAL, SenseCode::INVALID_FIELD_IN_CDB.0);
const OUT_OF_RANGE: (u8, u16) = (ILLEGAL, SenseCode::LBA_OUT_OF_RANGE.0);
const LIST_LENGTH: (u8, u16) = (ILLEGAL, SenseCode::PARAMETER_LIST_LENGTH.0);
const INVALID_LIST: (u8, u16) = (ILLEGAL, SenseCode::INVALID_PARAMETER.0);
