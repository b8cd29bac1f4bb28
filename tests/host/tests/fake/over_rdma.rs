//! The same over RDMA, as tasks of a core.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use rdma::{
    Card, Completion, Done, Incoming, Inline, PairOptions, Payload, QueuePair, Received, Remote,
    Work,
};
use reactor::buf::{Buf, alloc};
use wire::nvme::command::AdminOpcode;
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe, Status};
use wire::rdma::{CmAccept, CmReject, CmRequest, CmStatus};

use super::answers::{self, BLOCKS, bytes_of};

/// Receives of each queue.
pub const RECEIVES: u16 = 128;
/// Tag of messages and what goes before them.
const ANSWER: u64 = u64::MAX;

/// What the controller does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It rejects I/O queues.
    Reject,
    /// It refuses them and does not say why.
    Refuse,
    /// It accepts them with a record format that nobody knows.
    Format,
    /// It accepts them with a receive queue that holds nothing.
    NoReceives,
    /// It says that it takes no keyed descriptors.
    NoKeys,
    /// A response of an I/O command has 17 bytes.
    LongResponse,
    /// A response of an I/O command names another command.
    OtherCid,
    /// A read ends well without any data.
    NoData,
    /// Keys are invalidated that nobody asked for.
    Unasked,
    /// Keys are not invalidated although the host asked for it.
    Forgetful,
    /// A read writes beyond the memory it got.
    Beyond,
    /// The connection ends instead of an answer.
    Disconnect,
    /// No answer at all.
    Silence,
}

/// What happened, and what was written.
#[derive(Debug, Default)]
pub struct Seen {
    /// The private data of every queue.
    pub requests: Vec<CmRequest>,
    /// Writes that came inside their capsule.
    pub in_capsule: u64,
    /// Writes that were fetched.
    pub fetched: u64,
    disk: Vec<u8>,
}

/// What all connections share.
pub type Shared = Rc<RefCell<Seen>>;

/// Nothing happened yet.
pub fn shared() -> Shared {
    let disk = vec![0; BLOCKS * 4096];
    Rc::new(RefCell::new(Seen {
        disk,
        ..Seen::default()
    }))
}

/// Serves for ever.
pub async fn serve(card: Card, address: SocketAddr, fault: Fault, shared: Shared) {
    let listener = card.listen(address).await.expect("a free port");
    loop {
        let incoming = listener.accept().await.expect("a request");
        reactor::spawn(connection(incoming, fault, shared.clone())).detach();
    }
}

async fn connection(incoming: Incoming, fault: Fault, shared: Shared) {
    let request = *CmRequest::check(incoming.private_data()).expect("private data");
    shared.borrow_mut().requests.push(request);
    let is_io = request.qid.get() != 0;
    let mut accept = CmAccept::new(RECEIVES);
    match fault {
        Fault::Reject if is_io => {
            let reject = CmReject::new(CmStatus::INVALID_CNTLID);
            return incoming.reject(reject.as_wire());
        }
        Fault::Refuse if is_io => return drop(incoming),
        Fault::Format if is_io => accept.recfmt.set(1),
        Fault::NoReceives if is_io => accept.crqsize.set(0),
        _ => {}
    }
    let options = PairOptions {
        send_entries: 4 * u32::from(RECEIVES),
        read_depth: 16,
    };
    let Ok(pair) = incoming.accept(accept.as_wire(), options).await else {
        return;
    };
    let fake = Fake {
        pair,
        fault,
        shared,
        is_io,
        enabled: false,
        fetching: BTreeMap::new(),
    };
    fake.serve().await;
}

struct Fake {
    pair: QueuePair,
    fault: Fault,
    shared: Shared,
    is_io: bool,
    enabled: bool,
    fetching: BTreeMap<u64, Sqe>,
}

impl Fake {
    async fn serve(mut self) {
        while let Ok(event) = self.pair.next().await {
            match event {
                Completion::Received(message) => self.command(message).await,
                Completion::Done {
                    tag,
                    done: Done::Read(data),
                } => {
                    let sqe = self.fetching.remove(&tag).expect("it was fetched");
                    self.shared.borrow_mut().fetched += 1;
                    self.store(&sqe, &data);
                }
                Completion::Done { .. } | Completion::Failed { .. } => {}
            }
            self.pair.kick();
        }
    }

    async fn command(&mut self, message: Received) {
        assert!(message.len_bytes >= 64, "the host sends whole capsules");
        let sqe = *Sqe::decode(&message.header).expect("64 bytes");
        if sqe.is_fabrics() {
            // The data of Connect is not looked at.
            let result = answers::fabrics(&sqe, &mut self.enabled);
            self.respond(&sqe, Status::SUCCESS, result);
        } else if self.is_io {
            self.nvm(&sqe, message.data).await;
        } else {
            self.admin(&sqe).await;
        }
    }

    async fn admin(&mut self, sqe: &Sqe) {
        match sqe.admin_opcode() {
            AdminOpcode::IDENTIFY => {
                let mut data = answers::identify(sqe);
                if self.fault == Fault::NoKeys {
                    // SGLS of Identify Controller.
                    data[536] = 1;
                }
                self.give(sqe, &data).await;
            }
            AdminOpcode::SET_FEATURES => {
                self.respond(sqe, Status::SUCCESS, u64::from(sqe.cdw11.get()));
            }
            _ => self.respond(sqe, Status::INVALID_OPCODE, 0),
        }
    }

    async fn nvm(&mut self, sqe: &Sqe, inside: Option<Buf>) {
        match self.fault {
            Fault::Disconnect => return self.pair.disconnect(),
            Fault::Silence => return,
            _ => {}
        }
        match (sqe.nvm_opcode(), inside) {
            (NvmOpcode::READ, _) => {
                let data = self.shared.borrow().disk[bytes_of(sqe)].to_vec();
                self.give(sqe, &data).await;
            }
            (NvmOpcode::WRITE | NvmOpcode::COMPARE, Some(data)) => {
                self.shared.borrow_mut().in_capsule += 1;
                self.store(sqe, &data);
            }
            (NvmOpcode::WRITE | NvmOpcode::COMPARE, None) => {
                let (from, len) = memory_of(sqe);
                let into = alloc(len).await;
                let tag = u64::from(sqe.cid.get());
                self.fetching.insert(tag, *sqe);
                self.post(tag, Work::Read { into, from });
            }
            (NvmOpcode::FLUSH, _) => self.respond(sqe, Status::SUCCESS, 0),
            _ => self.respond(sqe, Status::INVALID_OPCODE, 0),
        }
    }

    fn store(&mut self, sqe: &Sqe, data: &[u8]) {
        let range = bytes_of(sqe);
        let is_write = sqe.nvm_opcode() == NvmOpcode::WRITE;
        let mut shared = self.shared.borrow_mut();
        let same = shared.disk[range.clone()] == *data;
        if is_write {
            shared.disk[range].copy_from_slice(data);
        }
        drop(shared);
        let status = if is_write || same {
            Status::SUCCESS
        } else {
            Status::COMPARE_FAILURE
        };
        self.respond(sqe, status, 0);
    }

    async fn give(&mut self, sqe: &Sqe, bytes: &[u8]) {
        let (mut to, len) = memory_of(sqe);
        assert_eq!(len, bytes.len(), "the host describes what it asks for");
        let mut data = alloc(bytes.len()).await;
        data.as_mut().copy_from_slice(bytes);
        if self.is_io && self.fault == Fault::Beyond {
            to.address += 4096;
        }
        if !(self.is_io && self.fault == Fault::NoData) {
            self.post(ANSWER, Work::Write { data, to });
        }
        self.respond(sqe, Status::SUCCESS, 0);
    }

    fn respond(&mut self, sqe: &Sqe, status: Status, result: u64) {
        let is_broken = self.is_io && !sqe.is_fabrics();
        let fault = if is_broken { self.fault } else { Fault::None };
        let wrong = if fault == Fault::OtherCid { 0x4000 } else { 0 };
        let cqe = Cqe::new(sqe.cid.get() ^ wrong, 0, status, result);
        let mut bytes = cqe.as_wire().to_vec();
        if fault == Fault::LongResponse {
            bytes.push(0);
        }
        let key = match sqe.sgl() {
            Ok(Sgl::Keyed {
                key, invalidate, ..
            }) if invalidate || fault == Fault::Unasked => Some(key),
            _ => None,
        };
        let invalidate = key.filter(|_| fault != Fault::Forgetful);
        let payload = Payload::Inline(Inline::new(&bytes).expect("it is short"));
        self.post(
            ANSWER,
            Work::Send {
                payload,
                invalidate,
            },
        );
    }

    /// A connection that ended takes no more work.
    fn post(&self, tag: u64, work: Work) {
        drop(self.pair.post(tag, work));
    }
}

/// Where the host has the data of a command, and how much it says there is.
fn memory_of(sqe: &Sqe) -> (Remote, usize) {
    match sqe.sgl() {
        Ok(Sgl::Keyed {
            address,
            key,
            len_bytes,
            ..
        }) => (Remote { address, key }, len_bytes as usize),
        other => panic!("the host describes memory, not {other:?}"),
    }
}
