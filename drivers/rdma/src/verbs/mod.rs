//! Real cards, through libibverbs and librdmacm, which are loaded when a card is first asked for.
//!
//! `ffi` and `library` are the libraries as they are; `device`, `news`, `channel`, `event`, `cm_id`,
//! `completions`, `receives`, `slots`, `send_queue` and `short` wrap their objects; all else but the
//! two calls of `pair` is safe code. What all cores share is a
//! [`Registry`]: open devices and registered memory. What a core has on a device is in `queues`,
//! served by the tasks of `polling`; connections come and go through `manager`; `pair` is a queue
//! pair and its end.
//!
//! Memory that a card may touch is owned by the slot of its work (`send_queue`, `receives`) until the
//! card has given it back or the queue pair is destroyed, and lies in pools that stay mapped and
//! registered as long as anything uses the device.

mod card;
mod channel;
mod cm_id;
mod completions;
mod device;
mod event;
mod expose;
mod ffi;
mod incoming;
mod keys;
mod library;
mod listener;
mod manager;
mod news;
mod pair;
mod polling;
mod queues;
mod receives;
mod regions;
mod registry;
mod send_queue;
mod short;
mod slots;
mod status;

use std::rc::Rc;

pub use library::load_libraries;
pub use registry::Registry;

use crate::{Card, CardOptions, RdmaError};

/// Marks the completion of a receive, whose slot is in the lower bits; else it is a slot of the
/// pair's send queue.
const RECEIVE: u64 = 1 << 63;

impl Card {
    /// A card of this core over real devices. Registers this core's buffer pools with the devices
    /// in use; what else it needs is made at the first listener or connection.
    ///
    /// Errors: `Memory`. Must be called in an executor on a real kernel.
    pub fn verbs(registry: Registry, options: CardOptions) -> Result<Card, RdmaError> {
        let card = card::VerbsCard::new(registry, options)?;
        Ok(Card::new(Rc::new(card)))
    }
}
