//! A queue over a link that is no transport: the test is the host, and sees what a link is asked for.

mod away;
mod home;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use reactor::buf::Buf;
use reactor::sim::{World, WorldOptions};
use reactor::sync::Notify;
use wire::fabrics::property::{PropertyGet, PropertySet};
use wire::nvme::command::ReadWrite;
use wire::nvme::register::{Config, PropertySize, offset};
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe, Status};

use super::{Carried, Ends, Fetch, Link, Queue, listen};
use crate::nvmf::controller::Host;
use crate::nvmf::directory::Directory;
use crate::nvmf::fabrics::ConnectRequest;
use crate::nvmf::join::join;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::{DataPlace, Transfer};
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Refusal;
use crate::nvmf::target::{Served, Target};
use crate::nvmf::transport::Transport;
use crate::options::{SubsystemOptions, TargetOptions, volume_nqn};
use crate::reservation::Reservations;

const SECOND: Duration = Duration::from_secs(1);
const BLOCK: usize = 4096;
/// The name that `memory_volume` gives its volume.
const VOLUME: &str = "memory";
const ANY: u16 = 0xffff;

/// An answer as the link was given it.
struct Answer {
    sqe: Sqe,
    cqe: Cqe,
    data: Option<Buf>,
}

/// Keeps what it is asked for until the test looks.
#[derive(Default)]
struct Fake {
    fetches: RefCell<VecDeque<Fetch>>,
    answers: RefCell<VecDeque<Answer>>,
    news: Notify,
    ending: Cell<Option<CloseReason>>,
}

impl Link for Fake {
    const TRANSPORT: Transport = Transport::Rdma;
    const READS_HOST_MEMORY: bool = true;

    fn fetch(queue: &Rc<Queue<Self>>, fetch: Fetch) {
        queue.link.fetches.borrow_mut().push_back(fetch);
        queue.link.news.notify_all();
    }

    fn answer(queue: &Queue<Self>, sqe: &Sqe, cqe: Cqe, data: Option<Buf>) {
        let sqe = *sqe;
        let answer = Answer { sqe, cqe, data };
        queue.link.answers.borrow_mut().push_back(answer);
        queue.link.news.notify_all();
    }

    fn payload_bytes(&self) -> usize {
        0
    }

    fn stalled_since(&self) -> Option<reactor::Instant> {
        None
    }

    fn end(&self, reason: CloseReason) {
        if self.ending.get().is_none() {
            self.ending.set(Some(reason));
            self.news.notify_all();
        }
    }

    fn ending(&self) -> Option<CloseReason> {
        self.ending.get()
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn sent_bytes(&self) -> u64 {
        0
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 4420))
}

fn request(qid: u16, cntlid: u16) -> ConnectRequest {
    ConnectRequest {
        qid,
        entries: 8,
        no_flow_control: false,
        kato_ms: 0,
        cntlid,
        host: Host {
            nqn: "nqn.2014-08.org.example:host".into(),
            id: [7; 16],
        },
        subsystem_nqn: volume_nqn(VOLUME),
        transport: Transport::Rdma,
    }
}

/// The host's end of a queue.
struct HostEnd {
    queue: Rc<Queue<Fake>>,
    result: u64,
}

impl HostEnd {
    async fn connect(target: &Target, request: ConnectRequest) -> Result<Self, Outcome> {
        let entries = request.entries;
        let joined = join(target, request, address()).await?;
        let ends = Ends {
            peer: address(),
            local: address(),
        };
        let seat = target.take_seat().expect("there is room");
        let carried = Carried::fresh(seat, ends, joined.qid, entries, 1);
        let queue = Queue::new(target.clone(), Fake::default(), joined.owner, carried);
        match (queue.owner.here(), joined.from_home) {
            (Some(controller), None) => controller
                .add_queue(joined.qid, queue.port())
                .expect("the queue is new"),
            (None, Some(from_home)) => {
                drop(reactor::spawn(listen(Rc::clone(&queue), from_home)));
            }
            _ => panic!("a queue is here or away"),
        }
        let result = joined.result;
        Ok(Self { queue, result })
    }

    /// Hands a command to the queue as a link does that found `capsule` in it.
    fn send(&self, sqe: Sqe, capsule: Option<Buf>) -> Result<(), Refusal> {
        let queue = &self.queue;
        let index = match queue.admit(&sqe) {
            Ok(index) => index,
            Err(Refusal::DuplicateCid) => {
                queue.answer_unentered(&sqe, Status::COMMAND_ID_CONFLICT.with_dnr());
                return Ok(());
            }
            Err(refusal) => return Err(refusal),
        };
        let capsule_bytes = capsule.as_ref().map_or(0, |buf| buf.len() as u32);
        match queue.check(index, &sqe, capsule_bytes) {
            Ok(Transfer::FromHost {
                len_bytes,
                place: DataPlace::Capsule { .. },
            }) => {
                assert!(queue.begin_receiving(index, len_bytes as usize));
                queue.received(index, capsule, true);
            }
            Ok(transfer) => queue.enqueue(index, transfer),
            Err(status) => queue.answer(index, status.into()),
        }
        Ok(())
    }

    /// Waits for the answer to `cid`.
    async fn answer(&self, cid: u16) -> Answer {
        loop {
            let answer = {
                let mut answers = self.queue.link.answers.borrow_mut();
                let found = answers.iter().position(|a| a.cqe.cid.get() == cid);
                found.and_then(|at| answers.remove(at))
            };
            match answer {
                Some(answer) => return answer,
                None => self.queue.link.news.notified().await,
            }
        }
    }

    async fn run(&self, sqe: Sqe) -> Answer {
        self.send(sqe, None).expect("there is room");
        self.answer(sqe.cid.get()).await
    }

    async fn status(&self, sqe: Sqe) -> Status {
        self.run(sqe).await.cqe.status().code()
    }

    /// Waits until data is to be fetched.
    async fn fetch(&self) -> Fetch {
        loop {
            let fetch = self.queue.link.fetches.borrow_mut().pop_front();
            match fetch {
                Some(fetch) => return fetch,
                None => self.queue.link.news.notified().await,
            }
        }
    }

    /// Takes the buffer of a fetch, as a card does that fills it.
    fn take_buffer(&self, fetch: Fetch) -> Option<Buf> {
        let mut table = self.queue.table.borrow_mut();
        table.slot_mut(fetch.index).data.take()
    }

    /// The data of a fetch comes: all of it `byte`.
    fn fill(&self, fetch: Fetch, byte: u8) {
        let mut buf = self.take_buffer(fetch).expect("its buffer is there");
        assert_eq!(buf.len(), fetch.len_bytes as usize);
        buf.as_mut().fill(byte);
        self.queue
            .fetched(fetch.index, fetch.serial, Some(buf), true);
    }

    async fn configure(&self, enable: u32) -> Status {
        let config = Config::default()
            .with_en(enable)
            .with_iosqes(6)
            .with_iocqes(4);
        let set = PropertySet::new(9, PropertySize::FOUR, offset::CC, u64::from(config.0));
        self.status(set.to_sqe()).await
    }

    async fn controller_status(&self) -> u64 {
        let get = PropertyGet::new(9, PropertySize::FOUR, offset::CSTS);
        self.run(get.to_sqe()).await.cqe.result.get()
    }

    /// Waits until the link is to end, and says why.
    async fn ending(&self) -> CloseReason {
        loop {
            match self.queue.link.ending.get() {
                Some(reason) => return reason,
                None => self.queue.link.news.notified().await,
            }
        }
    }

    /// Ends as a transport does.
    async fn leave(self) {
        let queue = &self.queue;
        queue.drop_unstarted();
        queue.leave_controller();
        queue.settled().await;
        queue.tell_end(CloseReason::PeerClosed);
        queue.hush(true);
        queue.target.leave(queue.id());
    }
}

fn keyed(len_bytes: usize) -> Sgl {
    Sgl::Keyed {
        address: 0x7000,
        len_bytes: len_bytes as u32,
        key: 0x1234_5678,
        invalidate: true,
    }
}

fn io(opcode: NvmOpcode, cid: u16, lba: u64, sgl: Sgl) -> Sqe {
    ReadWrite::new(lba, 1)
        .expect("a count")
        .encode(opcode, cid, 1, Some(sgl))
}

/// Serves a memory volume on core 0 and runs the host on core `host_core`, there with the target of
/// core 0 beside its own, for what happens at home.
fn run<F: Future<Output = ()> + 'static>(
    host_core: usize,
    host: impl Fn(Target, Target) -> F + Clone + 'static,
) {
    let mut world = World::new(1, WorldOptions::default());
    let done = Rc::new(Cell::new(false));
    let ended = Rc::clone(&done);
    world.start_with("target", 1 + host_core, move || {
        let directory = Directory::new();
        let home: Rc<RefCell<Option<Target>>> = Rc::default();
        let (host, done) = (host.clone(), Rc::clone(&done));
        move |core| {
            let (directory, home) = (directory.clone(), Rc::clone(&home));
            let (host, done) = (host.clone(), Rc::clone(&done));
            async move {
                let target = serve(core, directory, &home).await;
                if core == host_core {
                    while home.borrow().is_none() {
                        reactor::time::sleep(Duration::from_millis(1)).await;
                    }
                    let at_home = home.borrow().clone().expect("it is there");
                    host(target, at_home).await;
                    done.set(true);
                }
                reactor::time::sleep(1000 * SECOND).await;
            }
        }
    });
    world.run_until(100 * SECOND, |_| ended.get());
}

async fn serve(core: usize, directory: Directory, home: &RefCell<Option<Target>>) -> Target {
    let options = TargetOptions {
        connect_timeout: SECOND,
        keep_alive_grace: SECOND,
        directory,
        ..TargetOptions::default()
    };
    let target = Target::new(options).expect("good options");
    if core == 0 {
        let volume = volume::testing::memory_volume(64, BLOCK as u32);
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume, reservations, SubsystemOptions::default())
            .expect("the first");
        home.replace(Some(target.clone()));
    }
    target
}
