//! A host in the simulator that keeps several commands of every kind in flight on two queues and
//! keeps book of what each block may hold.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use reactor::time::{sleep, timeout};
use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::nvme::command::{Abort, Fuse, ReadWrite, WriteZeroes};
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::{C2hData, CapsuleResp, H2cData, PduType, R2t};

use super::sim_host::{BLOCK, Queue, block_data};

/// Parts of the volume that one host uses, each with one command in flight at a time.
pub const SLOTS: usize = 12;
/// Blocks of a slot.
pub const SLOT_BLOCKS: usize = 32;
const QUEUES: u16 = 2;
const DEPTH: usize = 5;
/// A target that says nothing for this long has lost an answer, or the connection is half open.
const SILENCE: Duration = Duration::from_secs(3);

/// What a host knows.
pub struct Book {
    index: usize,
    /// Values that each block may hold.
    blocks: RefCell<Vec<BTreeSet<u64>>>,
    /// Of these, values of aborted writes: they may come later than a read that follows the abort,
    /// but not later than a write that does.
    aborted_values: RefCell<Vec<BTreeSet<u64>>>,
    last_value: Cell<u64>,
    sessions: Cell<u64>,
    pub answered: Cell<u64>,
    /// Aborts that the target said it carried out.
    pub aborted: Cell<u64>,
    /// Times no answer came.
    pub silences: Cell<u64>,
    pub lost_sessions: Cell<u64>,
    /// It sends no more commands for now, but for keep alive.
    pub is_resting: Cell<bool>,
}

impl Book {
    pub fn new(index: usize) -> Rc<Self> {
        let zeros = BTreeSet::from([0]);
        Rc::new(Self {
            index,
            blocks: RefCell::new(vec![zeros; SLOTS * SLOT_BLOCKS]),
            aborted_values: RefCell::new(vec![BTreeSet::new(); SLOTS * SLOT_BLOCKS]),
            last_value: Cell::new(0),
            sessions: Cell::new(0),
            answered: Cell::new(0),
            aborted: Cell::new(0),
            silences: Cell::new(0),
            lost_sessions: Cell::new(0),
            is_resting: Cell::new(false),
        })
    }

    fn lba(&self, block: usize) -> u64 {
        (self.index * SLOTS * SLOT_BLOCKS + block) as u64
    }

    fn may_become(&self, op: &Op) {
        let mut blocks = self.blocks.borrow_mut();
        for block in &mut blocks[op.first..op.first + op.count] {
            block.insert(op.value);
        }
    }

    fn has_become(&self, op: &Op) {
        let mut blocks = self.blocks.borrow_mut();
        for block in &mut blocks[op.first..op.first + op.count] {
            *block = BTreeSet::from([op.value]);
        }
        let mut aborted = self.aborted_values.borrow_mut();
        for block in &mut aborted[op.first..op.first + op.count] {
            block.clear();
        }
    }

    fn was_aborted(&self, op: &Op) {
        if !matches!(op.kind, Kind::Write | Kind::Zeroes | Kind::FusedWrite) {
            return;
        }
        let mut aborted = self.aborted_values.borrow_mut();
        for block in &mut aborted[op.first..op.first + op.count] {
            block.insert(op.value);
        }
    }

    fn was_read(&self, op: &Op, data: &[u8]) {
        assert_eq!(data.len(), op.count * BLOCK, "a read is answered in full");
        let mut blocks = self.blocks.borrow_mut();
        for (index, bytes) in data.chunks(BLOCK).enumerate() {
            let value = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
            assert!(bytes == block_data(value, 1), "a torn block: {op:?}");
            let block = &mut blocks[op.first + index];
            assert!(
                block.contains(&value),
                "host {} block {}: {value} was read, it may hold {block:?}",
                self.index,
                op.first + index
            );
            *block = self.aborted_values.borrow()[op.first + index].clone();
            block.insert(value);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Zeroes,
    Flush,
    /// First half of a pair; the second has the next identifier.
    Compare,
    /// Second half.
    FusedWrite,
    /// Beyond the end of the volume.
    Bad,
}

#[derive(Clone, Debug)]
struct Op {
    kind: Kind,
    slot: usize,
    first: usize,
    count: usize,
    value: u64,
    read: Vec<u8>,
    must_abort: bool,
}

/// What the queues of one session share.
struct Session {
    book: Rc<Book>,
    number: u64,
    flying: RefCell<BTreeMap<(u16, u16), Op>>,
    /// How commands ended, the last of each identifier.
    ended: RefCell<BTreeMap<(u16, u16), Status>>,
}

fn below(limit: usize) -> usize {
    (reactor::random_u64() % limit as u64) as usize
}

/// Connects again and again.
pub async fn host(server: SocketAddr, book: Rc<Book>) {
    loop {
        // What ends a session is a fault of the run, or an assertion.
        let _ = session(server, Rc::clone(&book)).await;
        book.lost_sessions.set(book.lost_sessions.get() + 1);
        sleep(Duration::from_millis(5)).await;
    }
}

async fn session(server: SocketAddr, book: Rc<Book>) -> io::Result<()> {
    let name = format!("nqn.2014-08.org.example:host{}", book.index);
    let open = |qid, cntlid| timeout(SILENCE, Queue::open_as(server, name.clone(), qid, cntlid));
    let silent = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (mut admin, cntlid) = open(0, CNTLID_DYNAMIC).await.map_err(silent)??;
    timeout(SILENCE, admin.enable()).await.map_err(silent)??;
    let number = book.sessions.get() + 1;
    book.sessions.set(number);
    let session = Rc::new(Session {
        book,
        number,
        flying: RefCell::default(),
        ended: RefCell::default(),
    });
    let mut parts: Vec<Pin<Box<dyn Future<Output = io::Result<()>>>>> = Vec::new();
    for qid in 1..=QUEUES {
        let (queue, _) = open(qid, cntlid).await.map_err(silent)??;
        let flow = Flow {
            session: Rc::clone(&session),
            queue,
            qid,
            last_cid: 0,
        };
        parts.push(Box::pin(flow.run()));
    }
    parts.push(Box::pin(Rc::clone(&session).administer(admin)));
    poll_fn(|cx| {
        let ended = parts.iter_mut().map(|part| part.as_mut().poll(cx));
        let ended: Vec<_> = ended.collect();
        let over = ended.into_iter().find(Poll::is_ready);
        over.unwrap_or(Poll::Pending)
    })
    .await
}

impl Session {
    /// Keep alive, and Aborts of commands in flight.
    async fn administer(self: Rc<Self>, mut admin: Queue) -> io::Result<()> {
        let mut cid = 10;
        loop {
            sleep(Duration::from_micros(below(4000) as u64)).await;
            cid += 1;
            let victim = {
                let flying = self.flying.borrow();
                let at = below(flying.len() + 1);
                flying.keys().nth(at).copied()
            };
            let Some((qid, victim)) = victim.filter(|_| below(4) == 0) else {
                self.run_admin(&mut admin, Sqe::keep_alive(cid)).await?;
                continue;
            };
            let abort = Abort {
                sqid: qid,
                cid: victim,
            };
            self.ended.borrow_mut().remove(&(qid, victim));
            let dw0 = self.run_admin(&mut admin, abort.encode(cid)).await?;
            if dw0 & Abort::NOT_ABORTED == 0 {
                self.book.aborted.set(self.book.aborted.get() + 1);
                self.must_end_aborted(qid, victim);
            }
        }
    }

    async fn run_admin(&self, admin: &mut Queue, sqe: Sqe) -> io::Result<u32> {
        let (cqe, _) = match timeout(SILENCE, admin.run(sqe, &[], &[])).await {
            Ok(done) => done?,
            Err(_) => return Err(self.silence("admin")),
        };
        assert!(cqe.status().is_success(), "{:?}", cqe.status());
        Ok(cqe.dw0())
    }

    fn must_end_aborted(&self, qid: u16, cid: u16) {
        if let Some(status) = self.ended.borrow().get(&(qid, cid)) {
            assert_eq!(*status, Status::ABORTED_BY_REQUEST, "{qid} {cid}");
        } else if let Some(op) = self.flying.borrow_mut().get_mut(&(qid, cid)) {
            op.must_abort = true;
        }
    }

    fn silence(&self, what: &str) -> io::Error {
        self.book.silences.set(self.book.silences.get() + 1);
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer on {what}"))
    }
}

/// One I/O queue of a session.
struct Flow {
    session: Rc<Session>,
    queue: Queue,
    qid: u16,
    last_cid: u16,
}

impl Flow {
    async fn run(mut self) -> io::Result<()> {
        loop {
            let is_resting = self.session.book.is_resting.get();
            while !is_resting && self.in_flight() < DEPTH && below(3) != 0 {
                self.send_one().await?;
            }
            if self.in_flight() == 0 {
                sleep(Duration::from_micros(below(500) as u64)).await;
                continue;
            }
            if below(4) == 0 {
                sleep(Duration::from_micros(below(1000) as u64)).await;
            }
            match timeout(SILENCE, self.receive_one()).await {
                Ok(done) => done?,
                Err(_) => return Err(self.session.silence("a queue")),
            }
        }
    }

    fn in_flight(&self) -> usize {
        let flying = self.session.flying.borrow();
        flying.keys().filter(|(qid, _)| *qid == self.qid).count()
    }

    fn free_slot(&self) -> Option<usize> {
        let start = below(SLOTS);
        let session = &self.session;
        let flying = session.flying.borrow();
        // From session to session a slot changes its queue.
        let is_mine = |slot: &usize| {
            (*slot as u64 + session.number) % u64::from(QUEUES) + 1 == u64::from(self.qid)
        };
        let is_free = |slot: &usize| flying.values().all(|op| op.slot != *slot);
        let slots = (0..SLOTS).map(|at| (start + at) % SLOTS);
        slots.filter(is_mine).find(is_free)
    }

    fn cid(&mut self) -> u16 {
        self.last_cid = self.last_cid % 60_000 + 1;
        self.last_cid
    }

    async fn send_one(&mut self) -> io::Result<()> {
        let Some(slot) = self.free_slot() else {
            return Ok(());
        };
        let count = [1, 1, 2, 4, SLOT_BLOCKS][below(5)];
        let book = Rc::clone(&self.session.book);
        let value = book.last_value.get() + 1;
        let mut op = Op {
            kind: Kind::Read,
            slot,
            first: slot * SLOT_BLOCKS + below(SLOT_BLOCKS - count + 1),
            count,
            value,
            read: Vec::new(),
            must_abort: false,
        };
        match below(12) {
            0 => op.kind = Kind::Flush,
            1 => op.kind = Kind::Bad,
            2 => (op.kind, op.value) = (Kind::Zeroes, 0),
            3 => return self.send_pair(op).await,
            4..=7 => op.kind = Kind::Write,
            _ => {}
        }
        if op.kind == Kind::Write {
            book.last_value.set(value);
        }
        if matches!(op.kind, Kind::Write | Kind::Zeroes) {
            book.may_become(&op);
        }
        self.send(op).await
    }

    /// Compares with what must be there and writes, in one.
    async fn send_pair(&mut self, op: Op) -> io::Result<()> {
        let book = Rc::clone(&self.session.book);
        let known = book.blocks.borrow()[op.first].clone();
        let (Some(known), 1) = (known.first().copied(), known.len()) else {
            return Ok(());
        };
        book.last_value.set(op.value);
        let write = Op {
            kind: Kind::FusedWrite,
            count: 1,
            ..op
        };
        book.may_become(&write);
        let compare = Op {
            kind: Kind::Compare,
            value: known,
            ..write.clone()
        };
        self.send(compare).await?;
        self.send(write).await
    }

    async fn send(&mut self, op: Op) -> io::Result<()> {
        let cid = self.cid();
        let (sqe, capsule) = command(&self.session.book, &op, cid);
        let before = {
            let mut flying = self.session.flying.borrow_mut();
            flying.insert((self.qid, cid), op)
        };
        assert!(before.is_none(), "the host reuses an identifier in flight");
        self.queue.start(sqe, &capsule).await
    }

    async fn receive_one(&mut self) -> io::Result<()> {
        let (kind, header, bytes) = self.queue.receive().await?;
        match kind {
            PduType::R2T => self.send_data(*R2t::decode(&header).expect("an R2T")).await,
            PduType::C2H_DATA => {
                let cid = C2hData::decode(&header).expect("data").cccid.get();
                let mut flying = self.session.flying.borrow_mut();
                let op = flying.get_mut(&(self.qid, cid));
                let op = op.expect("data for a command in flight");
                op.read.extend_from_slice(&bytes);
                Ok(())
            }
            _ => {
                let cqe = CapsuleResp::decode(&header).expect("a response").cqe;
                self.answered(cqe.cid.get(), cqe.status())
            }
        }
    }

    async fn send_data(&mut self, r2t: R2t) -> io::Result<()> {
        let (cid, ttag) = (r2t.cccid.get(), r2t.ttag.get());
        let (at, len) = (r2t.r2to.get() as usize, r2t.r2tl.get() as usize);
        let op = self.session.flying.borrow().get(&(self.qid, cid)).cloned();
        let op = op.expect("an R2T for a command in flight");
        let data = block_data(op.value, op.count);
        // In two parts, so that moves fall in between.
        let half = (len / 2) & !3;
        for (from, to, last) in [(0, half, false), (half, len, true)] {
            let span = ((at + from) as u32, (to - from) as u32);
            let (pdu, layout) =
                H2cData::new(cid, ttag, span, last, &self.queue.framing()).expect("it fits");
            let part = &data[at + from..at + to];
            self.queue.send(pdu.as_wire(), &layout, part).await?;
            if below(3) == 0 {
                sleep(Duration::from_micros(below(2000) as u64)).await;
            }
        }
        Ok(())
    }

    fn answered(&mut self, cid: u16, status: Status) -> io::Result<()> {
        let key = (self.qid, cid);
        let op = self.session.flying.borrow_mut().remove(&key);
        let op = op.unwrap_or_else(|| panic!("an answer to command {cid}, which is not in flight"));
        self.session.ended.borrow_mut().insert(key, status);
        let book = &self.session.book;
        book.answered.set(book.answered.get() + 1);
        if op.must_abort {
            assert_eq!(status, Status::ABORTED_BY_REQUEST, "{op:?}");
        }
        let aborted = [
            Status::ABORTED_BY_REQUEST,
            Status::ABORTED_FAILED_FUSED.with_dnr(),
            Status::ABORTED_FAILED_FUSED,
        ];
        let gone = Status::INVALID_NAMESPACE.with_dnr();
        match (op.kind, status) {
            (_, status) if aborted.contains(&status) => book.was_aborted(&op),
            (_, status) if status == gone => return Err(io::Error::other("the namespace is gone")),
            (Kind::Bad, status) => assert_eq!(status, Status::LBA_OUT_OF_RANGE.with_dnr()),
            (kind, status) if !status.is_success() => panic!("{kind:?} failed: {status:?}"),
            (Kind::Read, _) => book.was_read(&op, &op.read),
            (Kind::Write | Kind::Zeroes | Kind::FusedWrite, _) => book.has_become(&op),
            (Kind::Flush | Kind::Compare, _) => {}
        }
        Ok(())
    }
}

fn command(book: &Book, op: &Op, cid: u16) -> (Sqe, Vec<u8>) {
    let lba = match op.kind {
        Kind::Bad => 1 << 40,
        _ => book.lba(op.first),
    };
    let fields = ReadWrite::new(lba, op.count as u32).expect("a count");
    let data = block_data(op.value, op.count);
    let len_bytes = data.len() as u32;
    let transport = Sgl::Transport { len_bytes };
    let capsule = Sgl::InCapsule {
        offset: 0,
        len_bytes,
    };
    let (sgl, data) = match len_bytes {
        ..=8192 => (capsule, data),
        _ => (transport, Vec::new()),
    };
    let encode = |opcode, fuse| {
        let mut sqe = fields.encode(opcode, cid, 1, Some(sgl));
        sqe.set_fuse(fuse);
        sqe
    };
    match op.kind {
        Kind::Read | Kind::Bad => {
            let sqe = fields.encode(NvmOpcode::READ, cid, 1, Some(transport));
            (sqe, Vec::new())
        }
        Kind::Write => (encode(NvmOpcode::WRITE, Fuse::NONE), data),
        Kind::Compare => (encode(NvmOpcode::COMPARE, Fuse::FIRST), data),
        Kind::FusedWrite => (encode(NvmOpcode::WRITE, Fuse::SECOND), data),
        Kind::Zeroes => {
            let zeroes = WriteZeroes::new(lba, op.count as u32, true).expect("a count");
            (zeroes.encode(cid, 1), Vec::new())
        }
        Kind::Flush => (Sqe::flush(cid, 1), Vec::new()),
    }
}
