//! The simulated card: a network card made of tasks over the reactor's TCP sockets.
//!
//! It does what a reliable connected queue pair does, as its user can see it: work is carried out
//! and completes in order, a message needs a receive of the peer's shared receive queue and waits
//! until there is one, an error ends the pair and flushes the rest, memory is used by key and
//! address. In a simulated world its connections meet the world's latencies, partitions and
//! crashes; on a machine it works over any TCP network. [`Faults`] makes the card itself fail.
//!
//! Where things are: `frame` is the protocol, `setup`, `listener` and `incoming` how a connection
//! comes to stand, `handle`, `pair` and `queue` what a user posts, `tasks` what runs, `parser` and
//! `responder` what comes in, `receives`, `regions` and `completions` what the pairs of a core share.

mod card;
mod completions;
mod faults;
mod frame;
mod handle;
mod incoming;
mod listener;
mod pair;
mod parser;
mod queue;
mod receives;
mod regions;
mod responder;
mod setup;
mod tasks;

use std::rc::Rc;

use crate::card::Card;
use crate::options::CardOptions;

pub use faults::{ERRORS, Faults, Moved, Rates, SetupStep, Strikes, WorkKind};

/// What errors call this kind of card.
const DEVICE: &str = "simulated";

impl Card {
    /// A simulated card for the calling core, which fails as `faults` says: by default not at all.
    ///
    /// Memory: the receives' data comes from the core's pool for host I/O at once, as far as it
    /// has it.
    pub fn soft(options: CardOptions, faults: Faults) -> Self {
        Self::new(Rc::new(card::SoftCard::new(options, faults)))
    }
}
