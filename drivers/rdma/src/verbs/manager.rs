//! The connection manager of a core: its channel of events, in the ring, and who waits for which.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use reactor::readiness::Descriptor;
use reactor::sync::Notify;
use reactor::time::sleep;

use super::channel::EventChannel;
use super::cm_id::CmId;
use super::event::{Event, Signal};
use super::library::Library;
use super::pair::Pair;
use crate::{Lost, WorkError};

/// Events of one identifier that wait; a listener's are requests. More are refused.
const SIGNALS_WAITING: usize = 1024;
/// Events that are taken in one turn.
const EVENTS_A_TURN: usize = 64;
/// Pause before trying again what should not have failed.
const PAUSE: Duration = Duration::from_millis(10);

/// The connections and listeners of a core. Its task ends when the card is dropped and the last of
/// them is gone.
pub struct Manager {
    channel: Arc<EventChannel>,
    entries: RefCell<BTreeMap<usize, Rc<Entry>>>,
    closing: Cell<bool>,
    bell: Notify,
}

/// Who waits for the events of an identifier.
#[derive(Default)]
pub struct Entry {
    signals: RefCell<VecDeque<Signal>>,
    bell: Notify,
    pair: RefCell<Weak<Pair>>,
}

/// An identifier whose events come here.
pub struct Managed {
    // The entry goes before the identifier, whose address may then name another.
    _registration: Registration,
    entry: Rc<Entry>,
    id: CmId,
}

/// Its place in the table.
struct Registration {
    manager: Rc<Manager>,
    key: usize,
}

impl Manager {
    /// Opens the channel and starts the task that reads it. Errors: what the system says.
    pub fn start(library: &'static Library) -> io::Result<Rc<Manager>> {
        let channel = EventChannel::open(library)?;
        let descriptor = Descriptor::new(channel.descriptor()?);
        let manager = Rc::new(Manager {
            channel,
            entries: RefCell::default(),
            closing: Cell::new(false),
            bell: Notify::new(),
        });
        reactor::spawn(read(manager.clone(), descriptor));
        Ok(manager)
    }

    /// A fresh identifier. Errors: what the system says.
    pub fn new_id(self: &Rc<Self>) -> io::Result<Managed> {
        Ok(self.adopt(CmId::new(&self.channel)?))
    }

    /// Takes an identifier over whose events come through this channel already.
    pub fn adopt(self: &Rc<Self>, id: CmId) -> Managed {
        let entry = Rc::new(Entry::default());
        let key = id.key();
        self.entries.borrow_mut().insert(key, entry.clone());
        Managed {
            _registration: Registration {
                manager: self.clone(),
                key,
            },
            entry,
            id,
        }
    }

    /// Takes an identifier over from another core. Errors: what the system says.
    pub fn attach(self: &Rc<Self>, mut id: CmId) -> io::Result<Managed> {
        id.migrate(&self.channel)?;
        Ok(self.adopt(id))
    }

    /// The card is dropped.
    pub fn close(&self) {
        self.closing.set(true);
        self.bell.notify_all();
    }

    fn is_over(&self) -> bool {
        self.closing.get() && self.entries.borrow().is_empty()
    }

    async fn over(&self) {
        while !self.is_over() {
            self.bell.notified().await;
        }
    }

    fn dispatch(&self, event: Event) {
        let entry = self.entries.borrow().get(&event.key).cloned();
        // Else it went to another core, or a listener is gone: a request in it is refused.
        if let Some(entry) = entry {
            entry.take(event.signal);
        }
    }
}

async fn read(manager: Rc<Manager>, descriptor: Descriptor) {
    while !manager.is_over() {
        let mut count = 0;
        while let Some(event) = manager.channel.next_event() {
            manager.dispatch(event);
            count += 1;
            if count == EVENTS_A_TURN {
                break;
            }
        }
        if count == EVENTS_A_TURN {
            reactor::next_turn().await;
        } else if let Some(Err(error)) = net::first(descriptor.readable(), manager.over()).await {
            tracing::error!(%error, "events of the connection manager cannot be waited for");
            sleep(PAUSE).await;
        }
    }
}

impl Entry {
    /// Tells the pair of the connection what happens to it.
    pub fn set_pair(&self, pair: Weak<Pair>) {
        self.pair.replace(pair);
    }

    fn take(&self, signal: Signal) {
        if let Some(pair) = self.pair.borrow().upgrade()
            && let Some(why) = end_of(&signal)
        {
            pair.end(why);
        }
        let mut signals = self.signals.borrow_mut();
        if signals.len() < SIGNALS_WAITING {
            signals.push_back(signal);
            self.bell.notify_one();
        }
    }

    /// The next event. Cancel: it goes to the next caller.
    pub async fn next(&self) -> Signal {
        loop {
            let next = self.signals.borrow_mut().pop_front();
            if let Some(signal) = next {
                return signal;
            }
            self.bell.notified().await;
        }
    }
}

/// Why an event ends a pair, if it does.
fn end_of(signal: &Signal) -> Option<Lost> {
    match signal {
        Signal::Disconnected => Some(Lost::ByPeer),
        Signal::DeviceRemoval => Some(Lost::Failed(WorkError::Card)),
        Signal::AddressChange | Signal::Failed(_) | Signal::Refused(_) => {
            Some(Lost::Failed(WorkError::Unreachable))
        }
        _ => None,
    }
}

impl Managed {
    /// The identifier.
    pub fn id(&self) -> &CmId {
        &self.id
    }

    /// Its events.
    pub fn entry(&self) -> &Rc<Entry> {
        &self.entry
    }

    /// Takes it off this core, for [`Manager::attach`] of another. It keeps its events until then.
    pub fn detach(self) -> CmId {
        self.id
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.manager.entries.borrow_mut().remove(&self.key);
        self.manager.bell.notify_all();
    }
}
