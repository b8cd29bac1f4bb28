//! Ends of copies on other cores: what the core of the copy asks for, and what the core of the unit
//! does about it.
//!
//! The seam is one piece. It goes to the unit's core in one message, with its data when it is
//! written, and its end comes back in one, with the data when it was read: payload is not copied on
//! the way. The unit's core decides by itself for each piece whether it may happen, as for a unit of
//! the same core. Each piece has its own way back, so that a core or a unit that goes away is seen
//! as the end of that.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use reactor::buf::Buf;
use reactor::mailbox::{self, Receiver, Sender};
use volume::VolumeInfo;
use wire::scsi::{Sense, SenseCode};

use super::aborted;
use super::piece::{self, Host};
use crate::reservation::Access as Wanted;
use crate::scsi::{LogicalUnit, PortNames, Units};

/// The unit is gone, or its core is.
const GONE: Sense = aborted(SenseCode::COPY_TARGET_NOT_REACHABLE);

/// To the core of a unit: a piece of a copy.
pub(in crate::scsi) struct Ask {
    nguid: [u8; 16],
    host: Arc<PortNames>,
    what: What,
    answer: Sender<Answer>,
}

enum What {
    Check(Wanted),
    Read { at: u64, len_bytes: u64 },
    Write { at: u64, data: Buf },
}

/// How a piece ended, with data when it was read.
type Answer = Result<Option<Buf>, Sense>;

/// A unit of another core, as a copy in the name of one host sees it.
pub(super) struct Far {
    info: VolumeInfo,
    core: Sender<Ask>,
    host: Arc<PortNames>,
}

impl Far {
    /// The unit of that volume on the core that reads the other end of `core`.
    pub fn new(info: VolumeInfo, core: Sender<Ask>, host: PortNames) -> Self {
        let host = Arc::new(host);
        Self { info, core, host }
    }

    pub fn info(&self) -> &VolumeInfo {
        &self.info
    }

    pub async fn check(&self, wanted: Wanted) -> Result<(), Sense> {
        self.ask(What::Check(wanted)).await.map(|_| ())
    }

    pub async fn read(&self, at: u64, len_bytes: u64) -> Result<Buf, Sense> {
        let read = self.ask(What::Read { at, len_bytes }).await?;
        read.ok_or(aborted(SenseCode::INTERNAL_FAILURE))
    }

    pub async fn write(&self, at: u64, data: Buf) -> Result<(), Sense> {
        self.ask(What::Write { at, data }).await.map(|_| ())
    }

    /// Cancel: a piece that its core has begun goes on, one that it has not does not happen.
    async fn ask(&self, what: What) -> Answer {
        let (answer, mut answers) = mailbox::channel(1);
        let (nguid, host) = (self.info.nguid, Arc::clone(&self.host));
        let sent = self.core.try_send(Ask {
            nguid,
            host,
            what,
            answer,
        });
        sent.map_err(|_| GONE)?;
        answers.recv().await.unwrap_or(Err(GONE))
    }
}

/// Does what other cores ask the units of this one for, until these are gone.
pub(in crate::scsi) async fn serve(units: Weak<Units>, mut asks: Receiver<Ask>) {
    while let Some(ask) = asks.recv().await {
        let Some(units) = units.upgrade() else { return };
        let unit = units.with_nguid(ask.nguid);
        // Pieces of several copies do not wait for each other.
        drop(reactor::spawn(async move { ask.carry_out(unit).await }));
    }
}

impl Ask {
    async fn carry_out(self, unit: Option<Rc<LogicalUnit>>) {
        // Who asked may have gone meanwhile.
        if self.answer.is_closed() {
            return;
        }
        let done = match unit {
            Some(unit) => self.what.execute(&unit, &Host::named(&self.host)).await,
            None => Err(GONE),
        };
        // There is room: it is the only answer. Nobody may want it any more.
        let _ = self.answer.try_send(done);
    }
}

impl What {
    async fn execute(self, unit: &Rc<LogicalUnit>, host: &Host<'_>) -> Answer {
        match self {
            What::Check(wanted) => piece::check(unit, host, wanted).map(|()| None),
            What::Read { at, len_bytes } => piece::read(unit, host, at, len_bytes).await.map(Some),
            What::Write { at, data } => piece::write(unit, host, at, data).await.map(|()| None),
        }
    }
}
