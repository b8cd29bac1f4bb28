//! Connect for a connection that stays on the core it came to, wherever its controller lives.
//!
//! Not every connection can go to the core of its controller. Such a one asks that core to carry out
//! its Connect, and is served away from the first command on, its admin queue too: `nvmf::away`.

use std::net::SocketAddr;
use std::sync::Arc;

use reactor::CoreId;
use reactor::mailbox::{self, Receiver, Sender};
use wire::nvme::Status;
use wire::text::DISCOVERY_NQN;

use crate::complaints::Complaint;
use crate::nvmf::away::{About, Away, FromHome, ToHome, from_home_capacity, to_home_capacity};
use crate::nvmf::directory::HomeIndex;
use crate::nvmf::fabrics::{self, ConnectRequest, Connected};
use crate::nvmf::handover::TargetMessage;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::owner::Owner;
use crate::nvmf::stand_in::{Post, StandIn};
use crate::nvmf::target::Target;

/// What a successful Connect gives to a connection of this core.
pub(crate) struct Joined {
    /// Its controller. One that is here does not know the queue yet:
    /// [`Controller::add_queue`](crate::nvmf::controller::Controller::add_queue). One elsewhere does.
    pub owner: Owner,
    /// The core of its controller.
    pub home: HomeIndex,
    /// 0 for the admin queue.
    pub qid: u16,
    /// Completion dword 0.
    pub result: u64,
    /// What the home core says, for [`listen`](crate::nvmf::queue::listen); none when this is home.
    pub from_home: Option<Receiver<FromHome>>,
}

/// Asks the core of a subsystem for a Connect.
pub(crate) struct ConnectFor {
    request: ConnectRequest,
    reach: SocketAddr,
    /// Where the connection is.
    core: CoreId,
    answer: Sender<Result<Abroad, Outcome>>,
}

/// What the core of the connection needs.
struct Abroad {
    about: Arc<About>,
    to_home: Sender<ToHome>,
    from_home: Receiver<FromHome>,
    qid: u16,
    result: u64,
}

/// Carries out a checked Connect where its subsystem lives. `reach` is the local address of the
/// connection.
///
/// Errors: how the Connect ends. Cancel: nothing happened, or the queue, which then is closed at
/// once. May wait, see [`fabrics::connect`]; the caller has to set it a limit.
pub(crate) async fn join(
    target: &Target,
    request: ConnectRequest,
    reach: SocketAddr,
) -> Result<Joined, Outcome> {
    let nqn = &request.subsystem_nqn;
    let is_here = nqn == DISCOVERY_NQN || target.subsystem(nqn).is_some();
    let home = target.options().directory.home_of(nqn);
    let elsewhere = home.filter(|(home, _)| !is_here && *home != target.home());
    let Some((home, mailbox)) = elsewhere else {
        let connected = fabrics::connect(target, &request, reach).await?;
        return Ok(here(target, connected));
    };
    let (answer, mut answered) = mailbox::channel(1);
    let message = ConnectFor {
        request,
        reach,
        core: target.core(),
        answer,
    };
    if mailbox
        .try_send(TargetMessage::ConnectFor(Box::new(message)))
        .is_err()
    {
        target.complaints().about(Complaint::Handover, || {
            tracing::warn!("core is overloaded: connect refused");
        });
        return Err(busy());
    }
    // A home that ends says nothing any more.
    let abroad = answered.recv().await.unwrap_or_else(|| Err(busy()))?;
    Ok(Joined {
        owner: Owner::Away(Away::new(abroad.about, abroad.to_home)),
        home,
        qid: abroad.qid,
        result: abroad.result,
        from_home: Some(abroad.from_home),
    })
}

fn here(target: &Target, connected: Connected) -> Joined {
    Joined {
        home: target.home(),
        qid: connected.qid,
        result: connected.result(),
        owner: Owner::Here(connected.controller),
        from_home: None,
    }
}

/// The host may try again.
fn busy() -> Outcome {
    Outcome::failure(Status::CONNECT_CONTROLLER_BUSY)
}

impl ConnectFor {
    /// Carries it out on this core, in a task of its own.
    pub fn carry_out(self: Box<Self>, target: &Target) {
        let target = target.clone();
        drop(reactor::spawn(async move {
            let limit = target.options().connect_timeout;
            let connect = fabrics::connect(&target, &self.request, self.reach);
            let connected = target
                .until_closing(reactor::time::timeout(limit, connect))
                .await;
            let answer = match connected {
                Some(Ok(Ok(connected))) => self.begin(&target, connected),
                Some(Ok(Err(outcome))) => Err(outcome),
                Some(Err(_)) | None => Err(busy()),
            };
            // Should nobody wait for it any more, the stand-in sees the end of its mailbox.
            let _ = self.answer.try_send(answer);
        }));
    }

    /// Nothing may wait between the Connect and this: the queue has its place from here on.
    fn begin(&self, target: &Target, connected: Connected) -> Result<Abroad, Outcome> {
        let (result, qid) = (connected.result(), connected.qid);
        let controller = connected.controller;
        let about = About::of(&controller, target.core());
        let about = Arc::new(about.ok_or_else(|| Outcome::failure(Status::INTERNAL_ERROR))?);
        let entries = self.request.entries;
        let (to_home, from_away) = mailbox::channel(to_home_capacity(entries));
        let (to_away, from_home) = mailbox::channel(from_home_capacity(entries));
        let _ = StandIn::begin(
            target,
            Post {
                controller,
                qid,
                entries,
                about: Arc::clone(&about),
                to_away,
                from_away,
                core: self.core,
                can_come_home: false,
            },
        );
        Ok(Abroad {
            about,
            to_home,
            from_home,
            qid,
            result,
        })
    }
}
