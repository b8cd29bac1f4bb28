//! In the simulator: two NVMe hosts and a SCSI participant share the reservations of a volume on a
//! disk, with connections at home and away, with commands in flight, and over power loss.

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::VOLUME;
use common::sim::SECOND;
use common::sim_host::{BLOCK, Queue, block_data};
use frontends::reservation::{
    Access, Action, Current, Identity, Kind, Listener, Notice, Participant, Refusal, Reservations,
};
use frontends::{Directory, SubsystemOptions, Target, TargetOptions};
use reactor::CoreId;
use reactor::sim::{Crash, DiskHandle, DiskOptions, World, WorldOptions};
use reactor::time::sleep;
use volume::{Engine, EngineOptions, PoolSpec, VolumeSpec};
use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::nvme::command::{AsyncEvent, GetFeatures, GetLogPage, ReadWrite, SetFeatures};
use wire::nvme::feature::FeatureId;
use wire::nvme::log::LogId;
use wire::nvme::reservation::{
    AcquireAction, ChangePersistence, NotificationType, RegisterAction,
    RegisteredControllerExtended, ReleaseAction, ReservationAcquire, ReservationKey,
    ReservationKeys, ReservationNotification, ReservationRegister, ReservationRelease,
    ReservationReport, ReservationStatusExtended, notification_mask,
};
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use zerocopy::little_endian::U64;

const PORT: u16 = 4420;
const DISK: &str = "pool";
/// How long the device stands still: longer than an abort may take, shorter than keep alive.
const STANDSTILL: Duration = SECOND;

/// What the SCSI participant is asked to do, and what came of it. It lives on the volume's core.
#[derive(Clone, Default)]
struct Script {
    ask: Rc<RefCell<Option<Action>>>,
    answer: Rc<RefCell<Option<Result<(), Refusal>>>>,
    /// Whether the participant may read and write.
    rights: Rc<Cell<(bool, bool)>>,
    told: Rc<RefCell<Vec<Notice>>>,
}

impl Script {
    async fn run(&self, action: Action) -> Result<(), Refusal> {
        *self.ask.borrow_mut() = Some(action);
        loop {
            if let Some(answer) = self.answer.borrow_mut().take() {
                return answer;
            }
            sleep(Duration::from_micros(200)).await;
        }
    }

    async fn serve(self, who: Rc<Participant>) {
        loop {
            let may = |access| who.check(access).is_ok();
            self.rights.set((may(Access::Read), may(Access::Write)));
            let ask = self.ask.borrow_mut().take();
            if let Some(action) = ask {
                let done = who.reservations().change(&who, action).await;
                *self.answer.borrow_mut() = Some(done);
            }
            sleep(Duration::from_micros(100)).await;
        }
    }
}

impl Listener for Script {
    fn notify(&self, notice: Notice) {
        self.told.borrow_mut().push(notice);
    }

    fn abort_tasks(&self) {}

    fn is_settled(&self) -> bool {
        true
    }
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

async fn open_volume() -> (Engine, volume::Volume) {
    let engine = match Engine::open(EngineOptions::new(DISK)).await {
        Ok((engine, _)) => engine,
        Err(_) => {
            let spec = PoolSpec {
                name: "main".into(),
                file_bytes: None,
                overwrite: false,
            };
            let created = Engine::create_pool(DISK.as_ref(), &spec).await;
            created.expect("a pool");
            let opened = Engine::open(EngineOptions::new(DISK)).await;
            opened.expect("it opens").0
        }
    };
    if let Some(volume) = engine.volume(VOLUME) {
        return (engine, volume);
    }
    let spec = VolumeSpec {
        name: VOLUME.into(),
        size_bytes: 4 << 20,
        block_bytes: BLOCK as u32,
        journal_bytes: Some(4 << 20),
    };
    let volume = engine.create_volume(spec).await.expect("room for it");
    (engine, volume)
}

async fn core_main(core: usize, directory: Directory, script: Script, away: bool) {
    let options = TargetOptions {
        directory,
        placement: frontends::Placement::Home,
        linger: Duration::from_millis(100),
        ..TargetOptions::default()
    };
    let target = Target::new(options).expect("good options");
    let mut _held = None;
    if core == 0 {
        let (engine, volume) = open_volume().await;
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume, reservations.clone(), SubsystemOptions::default())
            .expect("the first");
        let any = SocketAddr::from(([0, 0, 0, 0], PORT));
        target.listen(any).await.expect("the port is free");
        let identity = Identity::Scsi {
            initiator_port: "iqn.2026-11.example:s,i,0x000000000001".into(),
            target_port: 1,
        };
        let listener: Rc<dyn Listener> = Rc::new(script.clone());
        let participant = reservations.attach(identity, Rc::downgrade(&listener));
        drop(reactor::spawn(script.serve(participant)));
        _held = Some((engine, listener));
    }
    loop {
        sleep(Duration::from_millis(1)).await;
        if away && core == 0 {
            for connection in target.connections().iter().filter(|one| one.qid != 0) {
                target.send_away(connection.id, CoreId(1));
            }
        }
    }
}

/// An NVMe host with one I/O queue.
struct Host {
    admin: Queue,
    io: Queue,
    cntlid: u16,
}

const CAPSULE: fn(usize) -> Sgl = |len| Sgl::InCapsule {
    offset: 0,
    len_bytes: len as u32,
};

impl Host {
    async fn open(server: SocketAddr, letter: u8) -> Self {
        let name = format!("nqn.2014-08.org.example:{}", char::from(letter));
        let who = (&name[..], [letter; 16]);
        loop {
            let opened = Queue::open_with(server, who, 0, CNTLID_DYNAMIC).await;
            let Ok((mut admin, cntlid)) = opened else {
                sleep(Duration::from_millis(5)).await;
                continue;
            };
            admin.enable().await.expect("enabled");
            let (io, _) = Queue::open_with(server, who, 1, cntlid).await.expect("io");
            // Time for a queue to go where it is sent.
            sleep(Duration::from_millis(20)).await;
            return Self { admin, io, cntlid };
        }
    }

    async fn command(&mut self, sqe: Sqe, data: &[u8]) -> Status {
        let (cqe, _) = self.io.run(sqe, data, &[]).await.expect("answered");
        cqe.status().code()
    }

    async fn register(&mut self, keys: (u64, u64), fields: ReservationRegister) -> Status {
        let data = keys_of(keys);
        let sqe = fields.encode(11, 1, CAPSULE(data.len()));
        self.command(sqe, &data).await
    }

    async fn acquire(&mut self, keys: (u64, u64), action: AcquireAction, kind: Kind) -> Status {
        let fields = ReservationAcquire {
            action,
            ignore_key: false,
            kind: kind.nvme(),
        };
        let data = keys_of(keys);
        let sqe = fields.encode(12, 1, CAPSULE(data.len()));
        self.command(sqe, &data).await
    }

    async fn release(&mut self, key: u64, action: ReleaseAction, kind: Kind) -> Status {
        let fields = ReservationRelease {
            action,
            ignore_key: false,
            kind: kind.nvme(),
        };
        let current = U64::new(key);
        let data = ReservationKey { current };
        let sqe = fields.encode(13, 1, CAPSULE(data.as_wire().len()));
        self.command(sqe, data.as_wire()).await
    }

    async fn report(&mut self) -> (ReservationStatusExtended, Vec<RegisteredControllerExtended>) {
        let fields = ReservationReport {
            numd_zero_based: 1023,
            extended: true,
        };
        let sqe = fields.encode(14, 1, Sgl::Transport { len_bytes: 4096 });
        let (cqe, data) = self.io.run(sqe, &[], &[]).await.expect("answered");
        assert!(cqe.status().is_success(), "{:?}", cqe.status());
        let header = *ReservationStatusExtended::decode(&data).expect("whole");
        let entries = data[64..].chunks_exact(64);
        let entries = entries.take(header.status.count.get().into());
        let entry = |bytes| *RegisteredControllerExtended::decode(bytes).expect("whole");
        (header, entries.map(entry).collect())
    }

    async fn write(&mut self, lba: u64, value: u64) -> Status {
        let data = block_data(value, 1);
        self.command(write_command(lba), &data).await
    }

    /// One each of what the specification puts into the read group and into the write group.
    async fn read_group(&mut self) -> Vec<Status> {
        let one = ReadWrite::new(0, 1).expect("a count");
        let len_bytes = BLOCK as u32;
        let read = one.encode(NvmOpcode::READ, 4, 1, Some(Sgl::Transport { len_bytes }));
        let verify = one.encode(NvmOpcode::VERIFY, 5, 1, None);
        vec![
            self.command(read, &[]).await,
            self.command(verify, &[]).await,
        ]
    }

    async fn write_group(&mut self) -> Vec<Status> {
        let zeroes = wire::nvme::command::WriteZeroes::new(8, 1, false).expect("a count");
        vec![
            self.write(8, 1).await,
            self.command(zeroes.encode(6, 1), &[]).await,
            self.command(Sqe::flush(7, 1), &[]).await,
        ]
    }

    async fn log(&mut self) -> ReservationNotification {
        let fields = GetLogPage {
            lid: LogId::RESERVATION,
            numd_zero_based: 15,
            ..GetLogPage::default()
        };
        let sqe = fields.encode(30, 1, Sgl::Transport { len_bytes: 64 });
        let (cqe, data) = self.admin.run(sqe, &[], &[]).await.expect("answered");
        assert!(cqe.status().is_success(), "{:?}", cqe.status());
        *ReservationNotification::decode(&data).expect("whole")
    }

    async fn set_feature(&mut self, fid: FeatureId, cdw11: u32, nsid: u32) -> Status {
        let fields = SetFeatures {
            fid,
            cdw11,
            ..SetFeatures::default()
        };
        let sqe = fields.encode(31, nsid, None);
        let (cqe, _) = self.admin.run(sqe, &[], &[]).await.expect("answered");
        cqe.status().code()
    }

    async fn feature(&mut self, fid: FeatureId) -> u32 {
        let fields = GetFeatures {
            fid,
            ..GetFeatures::default()
        };
        let sqe = fields.encode(32, 1, None);
        let (cqe, _) = self.admin.run(sqe, &[], &[]).await.expect("answered");
        assert!(cqe.status().is_success(), "{:?}", cqe.status());
        cqe.dw0()
    }
}

/// Two registrants with keys 1 and 2; the first holds a reservation for writing.
async fn two_hosts(server: SocketAddr) -> (Host, Host) {
    let mut a = Host::open(server, b'a').await;
    let mut b = Host::open(server, b'b').await;
    assert_eq!(a.register((0, 1), NEW).await, Status::SUCCESS);
    assert_eq!(b.register((0, 2), NEW).await, Status::SUCCESS);
    let kind = Kind::WriteExclusive;
    let taken = a.acquire((1, 0), AcquireAction::ACQUIRE, kind).await;
    assert_eq!(taken, Status::SUCCESS);
    (a, b)
}

fn write_command(lba: u64) -> Sqe {
    let one = ReadWrite::new(lba, 1).expect("a count");
    one.encode(NvmOpcode::WRITE, 3, 1, Some(CAPSULE(BLOCK)))
}

fn keys_of((current, other): (u64, u64)) -> Vec<u8> {
    let (current, other) = (U64::new(current), U64::new(other));
    ReservationKeys { current, other }.as_wire().to_vec()
}

const NEW: ReservationRegister = ReservationRegister {
    action: RegisterAction::REGISTER,
    ignore_key: false,
    persistence: ChangePersistence::NO_CHANGE,
};

fn all(status: Status) -> impl Fn(&Vec<Status>) -> bool {
    move |found| found.iter().all(|one| *one == status)
}

/// A world with a served volume, and a place where hosts say that they are done.
struct Stage {
    world: World,
    server: SocketAddr,
    disk: DiskHandle,
    script: Script,
    done: Rc<Cell<bool>>,
}

impl Stage {
    fn new(seed: u64, away: bool) -> Self {
        let mut world = World::new(seed, WorldOptions::default());
        let disk = world.add_disk(DISK, DiskOptions::default());
        let server = SocketAddr::new(world.node("target"), PORT);
        let script = Script::default();
        let given = script.clone();
        world.start_with("target", 2, move || {
            let (directory, script) = (Directory::new(), given.clone());
            move |core| core_main(core, directory.clone(), script.clone(), away)
        });
        world.run_for(SECOND);
        Self {
            world,
            server,
            disk,
            script,
            done: Rc::default(),
        }
    }

    /// Runs what the hosts do, to its end.
    fn play<F: Future<Output = ()> + 'static>(&mut self, hosts: impl Fn(Scene) -> F + 'static) {
        self.done.set(false);
        let scene = Scene {
            server: self.server,
            disk: self.disk.clone(),
            script: self.script.clone(),
        };
        let done = self.done.clone();
        let hosts = Rc::new(hosts);
        self.world.start("hosts", 1, move |_| {
            let (scene, done, hosts) = (scene.clone(), done.clone(), hosts.clone());
            async move {
                hosts(scene).await;
                done.set(true);
            }
        });
        let done = self.done.clone();
        self.world.run_until(100 * SECOND, |_| done.get());
    }
}

#[derive(Clone)]
struct Scene {
    server: SocketAddr,
    disk: DiskHandle,
    script: Script,
}

fn on_each_stage(seeds: u64, play: impl Fn(&mut Stage)) {
    for seed in 0..seeds {
        for away in [false, true] {
            play(&mut Stage::new(seed, away));
        }
    }
}

/// Each host sees the other's reservation, whichever protocol it came by.
#[test]
fn hosts_of_both_kinds_keep_each_other_out() {
    on_each_stage(4, |stage| {
        stage.play(|scene| async move {
            let mut a = Host::open(scene.server, b'a').await;
            let mut b = Host::open(scene.server, b'b').await;
            assert_eq!(b.write(0, 1).await, Status::SUCCESS);
            let conflict = Status::RESERVATION_CONFLICT;
            let kind = Kind::WriteExclusive;
            let early = a.acquire((1, 0), AcquireAction::ACQUIRE, kind).await;
            assert_eq!(early, conflict, "not registered");
            assert_eq!(a.register((0, 1), NEW).await, Status::SUCCESS);
            assert_eq!(
                a.register((0, 1), NEW).await,
                Status::SUCCESS,
                "the same key"
            );
            assert_eq!(a.register((0, 2), NEW).await, conflict, "another key");
            let taken = a.acquire((1, 0), AcquireAction::ACQUIRE, kind).await;
            assert_eq!(taken, Status::SUCCESS);

            assert!(all(conflict)(&b.write_group().await));
            assert!(all(Status::SUCCESS)(&b.read_group().await));
            assert!(all(Status::SUCCESS)(&a.write_group().await));
            sleep(Duration::from_millis(1)).await;
            assert_eq!(scene.script.rights.get(), (true, false));

            let (header, entries) = b.report().await;
            assert_eq!((header.status.kind, header.status.count.get()), (1, 1));
            let found = (
                entries[0].cntlid.get(),
                entries[0].status,
                entries[0].host_id,
            );
            assert_eq!(found, (a.cntlid, 1, [b'a'; 16]));

            assert_eq!(scene.script.run(register(3)).await, Ok(()));
            let preempt = Action::Preempt {
                key: 3,
                victim: 1,
                kind: Some(Kind::ExclusiveAccessRegistrantsOnly),
                abort: false,
            };
            assert_eq!(scene.script.run(preempt).await, Ok(()));
            for host in [&mut a, &mut b] {
                assert!(all(conflict)(&host.write_group().await));
                assert!(all(conflict)(&host.read_group().await));
            }
            let (header, entries) = a.report().await;
            assert_eq!((header.status.kind, header.status.count.get()), (4, 1));
            assert_eq!((entries[0].cntlid.get(), entries[0].key.get()), (0xffff, 3));
            assert_eq!(b.register((0, 2), NEW).await, Status::SUCCESS);
            assert!(
                all(Status::SUCCESS)(&b.write_group().await),
                "registrants may"
            );
            let stranger = b.release(9, ReleaseAction::CLEAR, kind).await;
            assert_eq!(stranger, conflict);
            let cleared = b.release(2, ReleaseAction::CLEAR, kind).await;
            assert_eq!(cleared, Status::SUCCESS);
            assert_eq!(*scene.script.told.borrow(), [Notice::ReservationsPreempted]);
            assert!(all(Status::SUCCESS)(&a.write_group().await));
        });
    });
}

/// A preemption with abort answers when nothing of the preempted host can happen any more: what
/// was in the volume has ended, what comes later is refused.
#[test]
fn commands_in_flight_end_with_a_preempt_and_abort() {
    on_each_stage(6, |stage| {
        stage.play(|scene| async move {
            let (mut a, mut b) = two_hosts(scene.server).await;
            assert_eq!(a.write(0, 1).await, Status::SUCCESS);
            a.admin
                .start(Sqe::async_event_request(40), &[])
                .await
                .expect("sent");

            scene.disk.set_slow(STANDSTILL);
            let began = reactor::now();
            a.io.start(write_command(0), &block_data(2, 1))
                .await
                .expect("sent");
            sleep(Duration::from_millis(10)).await;
            let preempt = AcquireAction::PREEMPT_AND_ABORT;
            let taken = b.acquire((2, 1), preempt, Kind::ExclusiveAccess).await;
            assert_eq!(taken, Status::SUCCESS);
            assert!(
                reactor::now() - began >= STANDSTILL,
                "its write had not ended"
            );
            let (cqe, _) = a.io.finish(&[]).await.expect("answered");
            assert_eq!((cqe.cid.get(), cqe.status().code()), (3, Status::SUCCESS));

            let (cqe, _) = a.admin.finish(&[]).await.expect("told");
            let told = AsyncEvent::decode(cqe.dw0());
            assert_eq!((cqe.cid.get(), told), (40, AsyncEvent::RESERVATION_LOG));
            let page = a.log().await;
            assert_eq!(page.kind, NotificationType::REGISTRATION_PREEMPTED);
            assert_eq!(a.log().await.kind, NotificationType::EMPTY);

            scene.disk.set_slow(Duration::ZERO);
            assert_eq!(
                b.io.read(0, 1).await.expect("read"),
                2,
                "it happened, and before"
            );
            assert!(all(Status::RESERVATION_CONFLICT)(&a.write_group().await));
        });
    });
}

/// A host that is gone with a write in the volume is waited for, too.
#[test]
fn a_write_of_a_lost_host_is_waited_for() {
    on_each_stage(4, |stage| {
        stage.play(|scene| async move {
            let (mut a, mut b) = two_hosts(scene.server).await;
            let standstill = STANDSTILL * 3 / 2;
            scene.disk.set_slow(standstill);
            let began = reactor::now();
            a.io.start(write_command(0), &block_data(2, 1))
                .await
                .expect("sent");
            sleep(Duration::from_millis(10)).await;
            drop(a);
            // Its connections are given up by now, its controller is gone.
            sleep(Duration::from_millis(700)).await;
            let preempt = AcquireAction::PREEMPT_AND_ABORT;
            let taken = b.acquire((2, 1), preempt, Kind::WriteExclusive).await;
            assert_eq!(taken, Status::SUCCESS);
            assert!(
                reactor::now() - began >= standstill,
                "its write had not ended"
            );
            scene.disk.set_slow(Duration::ZERO);
            assert_eq!(
                b.io.read(0, 1).await.expect("read"),
                2,
                "it happened, and before"
            );
        });
    });
}

/// PTPL by command or by feature: what was acknowledged is there after power loss, or nothing is.
#[test]
fn reservations_survive_power_loss_when_asked_to() {
    on_each_stage(3, |stage| {
        for persists in [true, false] {
            stage.play(move |scene| async move {
                let mut a = Host::open(scene.server, b'a').await;
                let fields = ReservationRegister {
                    persistence: match persists {
                        true => ChangePersistence::SET,
                        false => ChangePersistence::CLEAR,
                    },
                    ..NEW
                };
                assert_eq!(a.register((0, 1), fields).await, Status::SUCCESS);
                let fid = FeatureId::RESERVATION_PERSISTENCE;
                assert_eq!(a.feature(fid).await, u32::from(persists));
                // Off and on again by the feature comes to the same.
                let off_and_on = [u32::from(!persists), u32::from(persists)];
                for value in off_and_on {
                    assert_eq!(a.set_feature(fid, value, 1).await, Status::SUCCESS);
                    assert_eq!(a.feature(fid).await, value);
                }
                let gone = a.set_feature(fid, 1, 2).await;
                assert_eq!(gone, Status::INVALID_NAMESPACE);
                let kind = Kind::ExclusiveAccess;
                let taken = a.acquire((1, 0), AcquireAction::ACQUIRE, kind).await;
                assert_eq!(taken, Status::SUCCESS);
            });
            stage.world.crash("target", Crash::PowerLoss);
            stage.world.restart("target");
            stage.world.run_for(SECOND);
            stage.play(move |scene| async move {
                let mut b = Host::open(scene.server, b'b').await;
                let expected = match persists {
                    true => Status::RESERVATION_CONFLICT,
                    false => Status::SUCCESS,
                };
                assert!(all(expected)(&b.write_group().await));
                let (header, entries) = b.report().await;
                assert_eq!(entries.len(), usize::from(persists));
                assert_eq!(header.status.persistence, u8::from(persists));
                let mut a = Host::open(scene.server, b'a').await;
                assert!(all(Status::SUCCESS)(&a.write_group().await));
                if persists {
                    let kind = Kind::ExclusiveAccess;
                    let released = a.release(1, ReleaseAction::RELEASE, kind).await;
                    assert_eq!(released, Status::SUCCESS);
                    let fields = ReservationRegister {
                        action: RegisterAction::UNREGISTER,
                        ..NEW
                    };
                    assert_eq!(a.register((1, 0), fields).await, Status::SUCCESS);
                }
            });
        }
    });
}

/// What is malformed, and what only looks so.
#[test]
fn fields_are_checked() {
    on_each_stage(1, |stage| {
        stage.play(|scene| async move {
            let mut a = Host::open(scene.server, b'a').await;
            let invalid = Status::INVALID_FIELD;
            assert_eq!(a.register((0, 0), NEW).await, invalid, "key 0");
            for (action, persistence) in [(3, 0), (7, 0), (0, 1)] {
                let fields = ReservationRegister {
                    action: RegisterAction(action),
                    ignore_key: false,
                    persistence: ChangePersistence(persistence),
                };
                assert_eq!(a.register((0, 1), fields).await, invalid);
            }
            let replace = ReservationRegister {
                action: RegisterAction::REPLACE,
                ..NEW
            };
            let conflict = Status::RESERVATION_CONFLICT;
            assert_eq!(a.register((0, 5), replace).await, conflict);
            let unregister = ReservationRegister {
                action: RegisterAction::UNREGISTER,
                ignore_key: true,
                ..NEW
            };
            assert_eq!(a.register((0, 0), unregister).await, conflict);
            let whatever = ReservationRegister {
                ignore_key: true,
                ..replace
            };
            assert_eq!(a.register((9, 5), whatever).await, Status::SUCCESS);
            assert_eq!(a.register((5, 6), replace).await, Status::SUCCESS);
            for kind in [0, 7, 0xff] {
                let fields = ReservationAcquire {
                    action: AcquireAction::ACQUIRE,
                    ignore_key: false,
                    kind,
                };
                let data = keys_of((6, 0));
                let sqe = fields.encode(12, 1, CAPSULE(data.len()));
                assert_eq!(a.command(sqe, &data).await, invalid, "type {kind}");
            }
            for (action, ignore_key) in [(3, false), (0, true)] {
                let fields = ReservationAcquire {
                    action: AcquireAction(action),
                    ignore_key,
                    kind: 1,
                };
                let data = keys_of((6, 0));
                let sqe = fields.encode(12, 1, CAPSULE(data.len()));
                assert_eq!(a.command(sqe, &data).await, invalid);
                let fields = ReservationRelease {
                    action: ReleaseAction(action),
                    ignore_key,
                    kind: 1,
                };
                let sqe = fields.encode(13, 1, CAPSULE(8));
                assert_eq!(a.command(sqe, &data[..8]).await, invalid);
            }
            let short = ReservationReport {
                numd_zero_based: 3,
                extended: false,
            };
            let sqe = short.encode(14, 1, Sgl::Transport { len_bytes: 16 });
            let status = a.command(sqe, &[]).await;
            assert_eq!(status, Status::HOST_ID_INCONSISTENT_FORMAT);
            let cut = ReservationReport {
                extended: true,
                ..short
            };
            let sqe = cut.encode(14, 1, Sgl::Transport { len_bytes: 16 });
            let (cqe, data) = a.io.run(sqe, &[], &[]).await.expect("answered");
            assert!(cqe.status().is_success());
            assert_eq!((data.len(), data[5]), (16, 1), "one registrant, cut short");
            let mut elsewhere = NEW.encode(11, 2, CAPSULE(16));
            assert_eq!(
                a.command(elsewhere, &keys_of((0, 1))).await,
                Status::INVALID_NAMESPACE
            );
            elsewhere = NEW.encode(11, 1, CAPSULE(8));
            let status = a.command(elsewhere, &keys_of((0, 1))[..8]).await;
            assert_eq!(status, Status::SGL_DATA_LENGTH_INVALID);
        });
    });
}

/// The mask keeps notices back: no event, no page.
#[test]
fn masked_notices_are_not_told() {
    on_each_stage(1, |stage| {
        stage.play(|scene| async move {
            let mut a = Host::open(scene.server, b'a').await;
            let fid = FeatureId::RESERVATION_NOTIFICATION;
            let mask = notification_mask::RESERVATION_RELEASED;
            let set = a.set_feature(fid, mask, wire::nvme::NSID_ALL).await;
            assert_eq!(set, Status::SUCCESS);
            assert_eq!(a.feature(fid).await, mask);
            assert_eq!(a.register((0, 1), NEW).await, Status::SUCCESS);
            assert_eq!(scene.script.run(register(3)).await, Ok(()));
            let kind = Kind::WriteExclusiveRegistrantsOnly;
            let reserve = Action::Reserve { key: 3, kind };
            assert_eq!(scene.script.run(reserve).await, Ok(()));
            let release = Action::Release {
                key: 3,
                kind: Some(kind),
            };
            assert_eq!(scene.script.run(release.clone()).await, Ok(()));
            assert_eq!(a.log().await.kind, NotificationType::EMPTY);
            assert_eq!(a.set_feature(fid, 0, 1).await, Status::SUCCESS);
            let reserve = Action::Reserve { key: 3, kind };
            assert_eq!(scene.script.run(reserve).await, Ok(()));
            assert_eq!(scene.script.run(release).await, Ok(()));
            assert_eq!(scene.script.run(Action::Clear { key: 3 }).await, Ok(()));
            let first = a.log().await;
            assert_eq!(first.kind, NotificationType::RESERVATION_RELEASED);
            assert_eq!((first.count.get(), first.available), (1, 1));
            let second = a.log().await;
            assert_eq!(second.kind, NotificationType::RESERVATION_PREEMPTED);
        });
    });
}
