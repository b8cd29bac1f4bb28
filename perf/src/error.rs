//! The one error of this crate.

use std::io;
use std::path::PathBuf;

use host::HostError;
use rdma::{Lost, RdmaError, WorkError};
use reactor::ReactorError;
use wire::iscsi::text::TextError;
use wire::iscsi::{AsyncEvent, LoginStatus, Opcode, PduError, RejectReason};
use wire::nvme;
use wire::tcp::{FatalStatus, PduType};

use crate::queue::Status;

/// Why a run could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// An option that cannot be, or that does not go with another or with the target.
    #[error("{option} {value}: {problem}")]
    Option {
        /// The option as typed.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what to write instead.
        problem: String,
    },
    /// The admin side of the target did not do what was asked.
    #[error("{doing} at {address}: {source}")]
    Admin {
        /// What this host was doing.
        doing: &'static str,
        /// The target.
        address: String,
        /// The reason.
        source: HostError,
    },
    /// The operating system refused something that is no connection.
    #[error("{doing}: {source}")]
    System {
        /// What this process was doing.
        doing: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// An I/O queue failed; the source says how.
    #[error("I/O queue {qid} to {address}: {source}")]
    Queue {
        /// The target.
        address: String,
        /// Queue identifier, from 1.
        qid: u16,
        /// The reason.
        source: Box<PerfError>,
    },
    /// The socket failed.
    #[error("{doing}: {source}; is the target still running?")]
    Socket {
        /// What the queue was doing.
        doing: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The target closed the connection.
    #[error("{doing}: the target closed the connection; its log should say why")]
    Closed {
        /// What the queue was doing.
        doing: &'static str,
    },
    /// The target did not answer in time.
    #[error(
        "{in_flight} commands in flight, none answered for {after_ms} ms; oldest: {oldest}; \
         look at the target, or raise --io-timeout"
    )]
    Timeout {
        /// Commands without an answer.
        in_flight: usize,
        /// Age of the oldest in milliseconds.
        after_ms: u64,
        /// What the oldest is.
        oldest: String,
    },
    /// The target sent a termination request.
    #[error("the target terminated the connection: {status:?}, information {information:#x}")]
    Terminated {
        /// Fatal error status.
        status: FatalStatus,
        /// Fatal error information.
        information: u32,
    },
    /// Bytes that are no valid PDU, or a header digest that does not match.
    #[error("malformed PDU from the target: {0}")]
    Wire(#[from] wire::Error),
    /// A valid PDU that has no place in the conversation.
    #[error("{kind:?} for command {cid}: {problem}; the target breaks the protocol")]
    Protocol {
        /// The PDU.
        kind: PduType,
        /// The command it names.
        cid: u16,
        /// The rule it breaks.
        problem: &'static str,
    },
    /// The target refused the queue.
    #[error("Connect was refused: {status:?}, result {result:#x}")]
    Refused {
        /// Status of Connect.
        status: nvme::Status,
        /// Its result field.
        result: u64,
    },
    /// Bytes that are no valid PDU of iSCSI, or a digest that does not match.
    #[error("malformed PDU from the target: {0}")]
    Iscsi(#[from] PduError),
    /// A text of iSCSI that is none.
    #[error("malformed text from the target: {0}")]
    Text(#[from] TextError),
    /// A valid PDU of iSCSI that has no place in the conversation.
    #[error("{opcode:?} for task {tag:#x}: {problem}; the target breaks the protocol")]
    IscsiProtocol {
        /// The PDU.
        opcode: Opcode,
        /// The initiator task tag it names.
        tag: u32,
        /// The rule it breaks.
        problem: &'static str,
    },
    /// The target did not let this initiator in.
    #[error("the login was refused: {status:?}{address}; {}", after_login(*status))]
    Login {
        /// Why.
        status: LoginStatus,
        /// Where the target is instead, after a blank, if it said so.
        address: String,
    },
    /// The target answered a key with what this program cannot do.
    #[error("the target answers {key}={value}: {problem}")]
    Negotiation {
        /// The key.
        key: String,
        /// The answer.
        value: String,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// The target refused a PDU.
    #[error("the target rejects a PDU: {reason:?}; its log should say why")]
    Rejected {
        /// Why.
        reason: RejectReason,
    },
    /// The target tells of something after which the session is of no use.
    #[error("the target says {event:?}; its log should say why")]
    Event {
        /// What.
        event: AsyncEvent,
    },
    /// A SCSI command before the load failed.
    #[error("{doing} failed with {status:?}; is it the right unit, and is it ready?")]
    Scsi {
        /// The command.
        doing: &'static str,
        /// Its status.
        status: Status,
    },
    /// The unit is none that a load can be put on.
    #[error("the unit cannot be used: {problem}")]
    Unit {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The admin session with a target failed; the source says how.
    #[error("{doing} at {address}: {source}")]
    Session {
        /// What this program was doing.
        doing: &'static str,
        /// The target.
        address: String,
        /// The reason.
        source: Box<PerfError>,
    },
    /// A command completed with an error status.
    #[error("{what} failed with {status:?}; --max-errors N lets a run go on after N of them")]
    Command {
        /// The command and its range.
        what: String,
        /// Its status.
        status: Status,
    },
    /// What was read is not what was written.
    #[error("DATA MISCOMPARE in {what}: byte {offset}: {problem}")]
    Miscompare {
        /// The command and its range.
        what: String,
        /// First wrong byte in the data read.
        offset: usize,
        /// What was expected and what came.
        problem: String,
    },
    /// There is no RDMA card, or it could not do what a set-up asks for.
    #[error(transparent)]
    Rdma(#[from] RdmaError),
    /// A card could not do what was posted.
    #[error("{0}; the target's log should say why")]
    Work(WorkError),
    /// The RDMA connection of a queue ended.
    #[error("{0}; the target's log should say why")]
    Lost(Lost),
    /// A core of the reactor could not start or go on.
    #[error(transparent)]
    Reactor(#[from] ReactorError),
    /// The buffers of a core are all in use.
    #[error("no memory is left for buffers: lower --qd, --bs or --queues")]
    Buffers,
    /// The thread of the admin side is gone.
    #[error("the admin thread ended without a result: please report this")]
    AdminLost,
    /// Gates that did not hold; which ones was printed.
    #[error("{count} gate(s) fell short")]
    FellShort {
        /// How many.
        count: usize,
    },
    /// A thread ended without a result.
    #[error("load thread {thread} ended without a result: please report this")]
    ThreadLost {
        /// Number of the thread.
        thread: usize,
    },
}

impl PerfError {
    /// A usage error.
    pub fn option(option: &'static str, value: impl ToString, problem: impl Into<String>) -> Self {
        Self::Option {
            option,
            value: value.to_string(),
            problem: problem.into(),
        }
    }

    /// The same error, said of I/O queue `qid` to `address`.
    pub fn on_queue(self, address: impl ToString, qid: u16) -> Self {
        Self::Queue {
            address: address.to_string(),
            qid,
            source: Box::new(self),
        }
    }

    /// The same error, said of what was done at `address`.
    pub fn on_session(self, doing: &'static str, address: impl ToString) -> Self {
        Self::Session {
            doing,
            address: address.to_string(),
            source: Box::new(self),
        }
    }

    /// Exit code: 2 when the command line is wrong, 3 for wrong data, 4 for a floor that was not
    /// reached, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Option { .. } => 2,
            Self::Miscompare { .. } => 3,
            Self::FellShort { .. } => 4,
            Self::Queue { source, .. } | Self::Session { source, .. } => source.exit_code(),
            _ => 1,
        }
    }
}

/// What to do after a login that was refused.
fn after_login(status: LoginStatus) -> &'static str {
    match status {
        LoginStatus::MOVED_TEMPORARILY | LoginStatus::MOVED_PERMANENTLY => "connect to it there",
        LoginStatus::NOT_FOUND | LoginStatus::REMOVED => {
            "leave out the name of the target to see which there are"
        }
        LoginStatus::AUTHENTICATION_FAILED => "let the name of --initiator in without a secret",
        LoginStatus::NOT_AUTHORIZED => "let the name of --initiator in at the target",
        _ => "the target's log should say why",
    }
}
