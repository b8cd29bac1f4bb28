//! One core's simulated card.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use reactor::buf::Buf;

use crate::card::{
    CardBackend, ExposedBackend, IncomingBackend, ListenerBackend, PairBackend, Setup,
};
use crate::error::RdmaError;
use crate::options::{CardOptions, PairOptions};
use crate::stats::CardStats;
use crate::work::Access;

use super::completions::CompletionQueue;
use super::faults::Faults;
use super::incoming::{Detached, Incoming};
use super::listener::Listener;
use super::receives::ReceiveQueue;
use super::regions::{self, Regions};
use super::setup;

/// What the pairs of a card share.
pub(super) struct Shared {
    pub options: CardOptions,
    pub faults: Faults,
    pub receives: Rc<ReceiveQueue>,
    pub regions: Rc<Regions>,
    pub completions: Rc<CompletionQueue>,
    pairs: Cell<u64>,
    /// Completions that the pairs may have at once.
    reserved: Cell<u64>,
    numbers: Cell<u32>,
    failed: Cell<u64>,
}

impl Shared {
    fn new(options: CardOptions, faults: Faults) -> Rc<Self> {
        Rc::new(Self {
            receives: Rc::new(ReceiveQueue::new(&options)),
            regions: Rc::default(),
            completions: CompletionQueue::start(),
            pairs: Cell::new(0),
            reserved: Cell::new(u64::from(options.receive_entries)),
            numbers: Cell::new(0),
            failed: Cell::new(0),
            options,
            faults,
        })
    }

    pub fn next_number(&self) -> u32 {
        let number = self.numbers.get().wrapping_add(1);
        self.numbers.set(number);
        number
    }

    pub fn count_failed(&self, count: u64) {
        self.failed.set(self.failed.get() + count);
    }
}

/// A pair's part of its card.
pub(super) struct Slot {
    card: Rc<Shared>,
    entries: u64,
}

impl Slot {
    /// Errors: the completion queue has no room for another pair.
    pub fn take(
        card: &Rc<Shared>,
        address: SocketAddr,
        options: &PairOptions,
    ) -> Result<Self, RdmaError> {
        let entries = u64::from(options.send_entries);
        let reserved = card.reserved.get() + entries;
        if reserved > u64::from(card.options.completion_entries) {
            let why = "the completion queue is too short for another queue pair";
            let error = io::Error::new(io::ErrorKind::OutOfMemory, why);
            return Err(setup::failed("making the queue pair", address, error));
        }
        card.reserved.set(reserved);
        card.pairs.set(card.pairs.get() + 1);
        Ok(Self {
            card: card.clone(),
            entries,
        })
    }

    pub fn card(&self) -> &Rc<Shared> {
        &self.card
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let card = &self.card;
        card.reserved.set(card.reserved.get() - self.entries);
        card.pairs.set(card.pairs.get() - 1);
    }
}

/// The user's hold on a card.
pub(super) struct SoftCard(Rc<Shared>);

impl SoftCard {
    pub fn new(options: CardOptions, faults: Faults) -> Self {
        Self(Shared::new(options, faults))
    }
}

impl CardBackend for SoftCard {
    fn listen(&self, address: SocketAddr) -> Setup<'_, Box<dyn ListenerBackend>> {
        Box::pin(async move {
            let listener = Listener::start(self.0.clone(), address)?;
            Ok(Box::new(listener) as Box<dyn ListenerBackend>)
        })
    }

    fn connect<'a>(
        &'a self,
        address: SocketAddr,
        private_data: &'a [u8],
        options: PairOptions,
    ) -> Setup<'a, (Rc<dyn PairBackend>, Vec<u8>)> {
        Box::pin(setup::connect(&self.0, address, private_data, options))
    }

    fn attach(&self, detached: Box<dyn Any + Send>) -> Result<Box<dyn IncomingBackend>, RdmaError> {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let Ok(detached) = detached.downcast::<Detached>() else {
            let why = "a request of another kind of card";
            let error = io::Error::new(io::ErrorKind::InvalidInput, why);
            return Err(setup::failed("attaching a request", nowhere, error));
        };
        Ok(Box::new(Incoming::attach(self.0.clone(), *detached)?))
    }

    fn expose(&self, buf: Buf, access: Access) -> Result<Box<dyn ExposedBackend>, RdmaError> {
        if !self.0.options.exposes_memory {
            return Err(regions::not_exposing(buf.len()));
        }
        Ok(Box::new(self.0.regions.expose(buf, access)?))
    }

    fn stats(&self) -> CardStats {
        let card = &self.0;
        let (memory_regions, registered_bytes) = card.regions.extent();
        CardStats {
            queue_pairs: card.pairs.get(),
            memory_regions,
            registered_bytes,
            receives_posted: card.receives.posted() as u64,
            receives_short: card.receives.short(),
            completions: card.completions.taken(),
            failed: card.failed.get(),
            armed: card.completions.armed(),
            links_down: 0,
        }
    }
}
