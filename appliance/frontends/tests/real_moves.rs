//! On real cores: a connection moves back and forth under load, and its host sees nothing of it.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::host::{
    Attached, HOST_ID, HOST_NQN, Host, Link0, attach, attach_io, io_sqe, pattern, read_sqe,
    response,
};
use common::pause;
use frontends::reservation::Reservations;
use frontends::{ConnectionInfo, Directory, Placement, SubsystemOptions, Target, TargetOptions};
use reactor::CoreId;
use reactor::cores::CoreConfig;
use reactor::mailbox::{Receiver, Sender};
use wire::fabrics::connect::{CNTLID_DYNAMIC, ConnectData};
use wire::nvme::command::GetLogPage;
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::{C2hData, PduType, R2t};

const BLOCK: u32 = 4096;
const MOVES: u64 = 100;
/// Commands in flight, each in a part of the volume that is its own.
const SLOTS: usize = 8;
const SLOT_BLOCKS: u64 = 64;
const SIZES: [u32; 4] = [1, 2, 8, 32];

type Job = Box<dyn FnOnce(&Target) + Send>;

/// Two cores, each with a target; the volume and the listener are on core 0.
struct TwoCores {
    address: SocketAddr,
    jobs: Vec<Sender<Job>>,
    cores: Option<reactor::cores::Cores>,
}

/// Waits up to ten seconds until `holds`; panics with `what` after that.
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        pause(Duration::from_millis(25));
    }
    panic!("{what}");
}

impl TwoCores {
    /// Whether every connection of the first core's volume is on that core.
    fn has_none_away(&self) -> bool {
        self.on(0, |target| target.away().is_empty())
    }

    fn start() -> Self {
        let config = |index| CoreConfig {
            name: format!("core-{index}"),
            ..common::core_config()
        };
        let (jobs, inboxes): (Vec<_>, Vec<_>) =
            (0..2).map(|_| reactor::mailbox::channel::<Job>(16)).unzip();
        let inboxes: Vec<_> = inboxes.into_iter().map(Some).collect();
        let (inboxes, directory) = (Mutex::new(inboxes), Directory::new());
        let (ready, address) = mpsc::channel();
        let cores = reactor::cores::start((0..2).map(config).collect(), move |core| {
            let inbox = inboxes.lock().expect("no panic")[core].take();
            let inbox = inbox.expect("each core takes its own");
            core_main(core, directory.clone(), inbox, ready.clone())
        });
        let address = address.recv_timeout(Duration::from_secs(20));
        Self {
            address: address.expect("the target listens"),
            jobs,
            cores: Some(cores.expect("two cores")),
        }
    }

    /// Runs `job` on a core and gives what it gives.
    fn on<T: Send + 'static>(
        &self,
        core: usize,
        job: impl FnOnce(&Target) -> T + Send + 'static,
    ) -> T {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move |target| {
            let _ = done.send(job(target));
        });
        assert!(self.jobs[core].try_send(job).is_ok(), "the core takes jobs");
        let result = result.recv_timeout(Duration::from_secs(20));
        result.expect("the job ends")
    }

    fn connections(&self, core: usize) -> Vec<ConnectionInfo> {
        self.on(core, |target| target.connections())
    }

    fn io_ids(&self) -> Vec<u64> {
        let all = self.connections(0);
        let io = all.iter().filter(|connection| connection.qid != 0);
        io.map(|connection| connection.id).collect()
    }

    /// Sends the only I/O connection away, or calls it home, and waits until it is there.
    fn move_once(&self) {
        let goal = self.connections(1).is_empty();
        for _ in 0..10_000 {
            let is_away = !self.connections(1).is_empty();
            if is_away == goal {
                return;
            }
            // May be refused while it is on its way.
            let ids = self.io_ids();
            self.on(0, move |target| match target.away().first() {
                Some((id, _)) => target.call_home(*id),
                None => ids.iter().any(|id| target.send_away(*id, CoreId(1))),
            });
            pause(Duration::from_millis(1));
        }
        panic!("the connection does not move");
    }
}

impl Drop for TwoCores {
    fn drop(&mut self) {
        self.jobs.clear();
        if !std::thread::panicking()
            && let Some(cores) = self.cores.take()
        {
            cores.join().expect("the cores end");
        }
    }
}

async fn core_main(
    core: usize,
    directory: Directory,
    mut inbox: Receiver<Job>,
    ready: mpsc::Sender<SocketAddr>,
) {
    let options = TargetOptions {
        placement: Placement::Home,
        directory,
        ..common::quick_options()
    };
    let target = Target::new(options).expect("good options");
    if core == 0 {
        let blocks = common::VOLUME_BYTES / u64::from(BLOCK);
        let volume = volume::testing::memory_volume(blocks, BLOCK);
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume, reservations, SubsystemOptions::default())
            .expect("the first of its name");
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = target.listen(local).await.expect("loopback can be bound");
        ready.send(listener.address()).expect("the test waits");
    }
    while let Some(job) = inbox.recv().await {
        job(&target);
    }
    target.shutdown().await;
}

/// What a slot has in flight.
#[derive(Clone, Default)]
struct InFlight {
    is_write: bool,
    seed: u8,
    blocks: u32,
    read: Vec<u8>,
}

/// Writes and reads in all slots until told to stop, and checks every byte.
fn load(host: &mut Host, stop: &AtomicBool, answered: &AtomicU64) {
    let mut slots = vec![InFlight::default(); SLOTS];
    let mut rounds = 0_usize;
    for cid in 0..SLOTS {
        begin_write(host, &mut slots, cid, rounds);
    }
    let mut in_flight = SLOTS;
    while in_flight != 0 {
        let pdu = host.receive();
        match pdu.kind {
            PduType::R2T => {
                let r2t = *R2t::decode(&pdu.header).expect("a whole R2T");
                let slot = &slots[usize::from(r2t.cccid.get())];
                let data = pattern(slot.seed, (slot.blocks * BLOCK) as usize);
                host.send_data(&r2t, &data);
                continue;
            }
            PduType::C2H_DATA => {
                let cid = C2hData::decode(&pdu.header).expect("data").cccid.get();
                slots[usize::from(cid)].read.extend_from_slice(&pdu.data);
                continue;
            }
            _ => {}
        }
        let cqe = response(&pdu);
        assert_eq!(cqe.status(), Status::SUCCESS);
        let cid = usize::from(cqe.cid.get());
        answered.fetch_add(1, Ordering::Relaxed);
        let slot = slots[cid].clone();
        if slot.is_write {
            let sqe = read_sqe(cid as u64 * SLOT_BLOCKS, slot.blocks, BLOCK);
            slots[cid].is_write = false;
            slots[cid].read.clear();
            send(host, cid, sqe, &[]);
            continue;
        }
        let expected = pattern(slot.seed, (slot.blocks * BLOCK) as usize);
        assert!(slot.read == expected, "slot {cid}: other data than written");
        if stop.load(Ordering::Relaxed) {
            in_flight -= 1;
        } else {
            rounds += 1;
            begin_write(host, &mut slots, cid, rounds);
        }
    }
}

fn begin_write(host: &mut Host, slots: &mut [InFlight], cid: usize, round: usize) {
    let slot = InFlight {
        is_write: true,
        seed: round as u8,
        blocks: SIZES[round % SIZES.len()],
        read: Vec::new(),
    };
    let data = pattern(slot.seed, (slot.blocks * BLOCK) as usize);
    let len_bytes = data.len() as u32;
    let in_capsule = len_bytes <= 8192;
    let sgl = match in_capsule {
        true => Sgl::InCapsule {
            offset: 0,
            len_bytes,
        },
        false => Sgl::Transport { len_bytes },
    };
    let lba = cid as u64 * SLOT_BLOCKS;
    let sqe = io_sqe(NvmOpcode::WRITE, lba, slot.blocks, sgl);
    slots[cid] = slot;
    send(host, cid, sqe, if in_capsule { &data } else { &[] });
}

fn send(host: &mut Host, cid: usize, mut sqe: Sqe, capsule: &[u8]) {
    sqe.cid.set(cid as u16);
    host.send(sqe, capsule);
}

fn moved_under_load(digests: bool) {
    let target = TwoCores::start();
    let link = Link0 {
        header_digest: digests,
        data_digest: digests,
        hpda: 0,
    };
    let Attached {
        mut admin, mut io, ..
    } = attach(target.address, link, 32);
    let (stop, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let (until, count) = (Arc::clone(&stop), Arc::clone(&answered));
    #[expect(
        clippy::disallowed_methods,
        reason = "the load comes from a thread of its own"
    )]
    let loader = std::thread::spawn(move || {
        load(&mut io, &until, &count);
        io
    });
    let mut before = 0;
    for number in 0..MOVES {
        target.move_once();
        // Every place is worked at.
        while answered.load(Ordering::Relaxed) < before + 20 {
            assert!(!loader.is_finished(), "the load failed at move {number}");
            pause(Duration::from_micros(200));
        }
        before = answered.load(Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    let mut io = loader
        .join()
        .expect("every command is answered as it should");
    assert!(admin.run(Sqe::keep_alive(0)).status.is_success());
    let done = io.read_blocks(0, 1, BLOCK);
    assert!(done.status.is_success());
    let [home, away] = [0, 1].map(|core| target.on(core, |target| target.snapshot_metrics()));
    assert!(home.moves + away.moves >= MOVES);
    assert_eq!(home.moves_given_up + away.moves_given_up, 0);
    let commands = home.total.commands + away.total.commands;
    assert!(
        commands >= answered.load(Ordering::Relaxed),
        "counted {commands}"
    );
}

#[test]
fn a_connection_moves_a_hundred_times_under_load() {
    moved_under_load(false);
}

#[test]
fn a_connection_with_digests_moves_a_hundred_times_under_load() {
    moved_under_load(true);
}

#[test]
fn errors_found_away_are_in_the_log_as_soon_as_the_host_knows_them() {
    let target = TwoCores::start();
    let Attached {
        mut admin, mut io, ..
    } = attach(target.address, Link0::default(), 32);
    target.move_once();
    for number in 0..200_u64 {
        let done = io.run(read_sqe((1 << 40) + number, 1, BLOCK));
        assert_eq!(done.status, Status::LBA_OUT_OF_RANGE.with_dnr());
        let sgl = Sgl::Transport { len_bytes: 64 };
        let page = GetLogPage {
            lid: wire::nvme::log::LogId::ERROR,
            numd_zero_based: 15,
            ..GetLogPage::default()
        };
        let done = admin.run(page.encode(0, 0xffff_ffff, sgl));
        assert!(done.status.is_success(), "{done:?}");
        let word = |at: usize| u64::from_le_bytes(done.data[at..at + 8].try_into().expect("8"));
        assert_eq!(word(0), number + 1, "the count of errors");
        assert_eq!(word(16), (1 << 40) + number, "the newest entry's block");
    }
}

#[test]
fn an_away_connection_ends_with_its_controller() {
    let target = TwoCores::start();
    let Attached { admin, mut io, .. } = attach(target.address, Link0::default(), 32);
    target.move_once();
    assert!(io.read_blocks(0, 1, BLOCK).status.is_success());
    drop(admin);
    assert!(io.is_closed(), "the queues go with the admin queue");
    wait_for("something is left of the controller", || {
        let left = target.connections(0).len() + target.connections(1).len();
        left == 0 && target.has_none_away()
    });
}

#[test]
fn a_queue_that_is_away_is_connected_again_once_it_is_gone() {
    let target = TwoCores::start();
    let Attached {
        admin: _admin,
        io,
        cntlid,
    } = attach(target.address, Link0::default(), 32);
    target.move_once();
    let mut second = Host::open(target.address, Link0::default());
    let done = second.connect(1, 32, &common::volume_nqn(), cntlid);
    assert_eq!(done.status, Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    drop(io);
    wait_for("the queue is not given free", || target.has_none_away());
    let mut io = attach_io(target.address, Link0::default(), 32, cntlid, 1);
    assert!(io.read_blocks(0, 1, BLOCK).status.is_success());
}

#[test]
fn a_target_shuts_down_with_connections_away() {
    let target = TwoCores::start();
    let Attached {
        admin: _admin,
        mut io,
        ..
    } = attach(target.address, Link0::default(), 32);
    target.move_once();
    assert!(io.read_blocks(0, 1, BLOCK).status.is_success());
    drop(target);
    assert!(io.is_closed());
}

#[test]
fn an_old_write_of_an_away_queue_never_follows_a_newer_one() {
    let target = TwoCores::start();
    let Attached {
        admin: _admin,
        mut io,
        ..
    } = attach(target.address, Link0::default(), 32);
    target.move_once();
    assert!(io.read_blocks(0, 1, BLOCK).status.is_success());
    // The core has no memory to receive into: the write stays unread in the socket.
    let held = target.on(1, |_| {
        let pool = reactor::buf::pool();
        std::iter::from_fn(|| pool.try_alloc(4096)).collect::<Vec<_>>()
    });
    let sgl = Sgl::InCapsule {
        offset: 0,
        len_bytes: BLOCK,
    };
    send(
        &mut io,
        1,
        io_sqe(NvmOpcode::WRITE, 0, 1, sgl),
        &pattern(1, 4096),
    );
    drop(io);
    let address = target.address;
    #[expect(
        clippy::disallowed_methods,
        reason = "the host that comes back has a thread of its own"
    )]
    let again = std::thread::spawn(move || {
        let mut new = attach(address, Link0::default(), 32);
        let done = new.io.write_blocks(0, &pattern(2, 4096), BLOCK);
        assert!(done.status.is_success());
        new
    });
    pause(Duration::from_millis(300));
    assert!(!again.is_finished(), "the new queue does not wait");
    drop(held);
    let mut new = again.join().expect("the host is back");
    for _ in 0..20 {
        let done = new.io.read_blocks(0, 1, BLOCK);
        assert!(done.data == pattern(2, 4096), "an old write came last");
        pause(Duration::from_millis(5));
    }
}

#[test]
fn commands_on_an_away_queue_keep_the_controller_alive() {
    let target = TwoCores::start();
    let mut admin = Host::open(target.address, Link0::default());
    let nqn = common::volume_nqn();
    let data = ConnectData::new(HOST_ID, CNTLID_DYNAMIC, &nqn, HOST_NQN).expect("good names");
    // The quick options add 100 ms.
    let done = admin.connect_with(0, 32, &data, 2000);
    assert!(done.status.is_success(), "{done:?}");
    admin.enable();
    let cntlid = (done.result & 0xffff) as u16;
    let mut io = attach_io(target.address, Link0::default(), 32, cntlid, 1);
    target.move_once();
    for _ in 0..20 {
        assert!(io.read_blocks(0, 1, BLOCK).status.is_success());
        pause(Duration::from_millis(200));
    }
    // Back home the time of the last command is known, and silence ends the controller.
    target.move_once();
    assert!(io.read_blocks(0, 1, BLOCK).status.is_success());
    assert!(io.is_closed(), "keep alive expires");
}
