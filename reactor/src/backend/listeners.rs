//! Accepting: one multishot accept per listener feeds the accepts that wait on it.
//!
//! Bounds: [`MAX_LISTENERS`] per core; connections accepted before anyone asked are kept up to
//! [`MAX_READY`], then the multishot accept is stopped until they are taken (the kernel's backlog
//! then holds newcomers off).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

use crate::op::OpKey;

/// Listeners per core.
pub(super) const MAX_LISTENERS: usize = 1024;

/// Accepted connections kept per listener while nobody asks for them.
const MAX_READY: usize = 64;

struct Listener {
    fd: RawFd,
    is_armed: bool,
    is_stopping: bool,
    waiting: VecDeque<OpKey>,
    ready: VecDeque<OwnedFd>,
}

struct Place {
    generation: u32,
    listener: Option<Listener>,
}

#[derive(Default)]
pub(super) struct Listeners {
    places: Vec<Place>,
}

/// Names the accept of a listener in the ring: its place, and how often the place was reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerKey {
    pub(super) place: u32,
    pub(super) generation: u32,
}

/// What the ring must do after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// Arm an accept for this listener.
    Arm(ListenerKey, RawFd),
    /// Stop the armed accept.
    Stop(ListenerKey),
}

/// An accept that can be completed.
pub(super) type Delivery = Option<(OpKey, io::Result<OwnedFd>)>;

impl Listeners {
    pub(super) fn add(&mut self, fd: RawFd) -> io::Result<()> {
        let made = Listener {
            fd,
            is_armed: false,
            is_stopping: false,
            waiting: VecDeque::new(),
            ready: VecDeque::with_capacity(MAX_READY),
        };
        if let Some(place) = self
            .places
            .iter_mut()
            .find(|place| place.listener.is_none())
        {
            place.listener = Some(made);
            return Ok(());
        }
        if self.places.len() >= MAX_LISTENERS {
            return Err(io::Error::other("too many listeners on one core"));
        }
        self.places.push(Place {
            generation: 0,
            listener: Some(made),
        });
        Ok(())
    }

    fn find(&mut self, fd: RawFd) -> Option<(ListenerKey, &mut Listener)> {
        self.places
            .iter_mut()
            .enumerate()
            .find_map(|(index, place)| {
                let listener = place
                    .listener
                    .as_mut()
                    .filter(|listener| listener.fd == fd)?;
                let key = ListenerKey {
                    place: index as u32,
                    generation: place.generation,
                };
                Some((key, listener))
            })
    }

    fn get(&mut self, key: ListenerKey) -> Option<&mut Listener> {
        let place = self.places.get_mut(key.place as usize)?;
        place
            .listener
            .as_mut()
            .filter(|_| place.generation == key.generation)
    }

    /// An accept was asked for: a connection that is there, or what to do to get one.
    pub(super) fn accept(&mut self, fd: RawFd, op: OpKey) -> (Delivery, Need) {
        let Some((key, listener)) = self.find(fd) else {
            let gone = io::Error::from(io::ErrorKind::NotConnected);
            return (Some((op, Err(gone))), Need::Nothing);
        };
        if let Some(socket) = listener.ready.pop_front() {
            return (Some((op, Ok(socket))), Need::Nothing);
        }
        listener.waiting.push_back(op);
        (None, listener.arm_if_needed(key))
    }

    /// The ring's accept said something.
    pub(super) fn completed(
        &mut self,
        key: ListenerKey,
        result: io::Result<OwnedFd>,
        goes_on: bool,
    ) -> (Delivery, Need) {
        // A closed listener's last connection is dropped here, which closes it.
        let Some(listener) = self.get(key) else {
            return (None, Need::Nothing);
        };
        if !goes_on {
            listener.is_armed = false;
            listener.is_stopping = false;
        }
        let was_stopped = matches!(&result, Err(error) if is_cancel(error));
        let delivery = match listener.waiting.pop_front() {
            Some(op) if was_stopped => {
                listener.waiting.push_front(op);
                None
            }
            Some(op) => Some((op, result)),
            None => {
                listener.ready.extend(result.ok());
                None
            }
        };
        (delivery, listener.need(key))
    }

    /// The accept's future is gone. Returns whether it was still waiting.
    pub(super) fn cancel(&mut self, op: OpKey) -> bool {
        let listeners = self
            .places
            .iter_mut()
            .filter_map(|place| place.listener.as_mut());
        for listener in listeners {
            if let Some(place) = listener.waiting.iter().position(|&waiting| waiting == op) {
                listener.waiting.remove(place);
                return true;
            }
        }
        false
    }

    /// Forgets a listener. Returns its armed accept, and the accepts that waited.
    pub(super) fn remove(&mut self, fd: RawFd) -> Option<(ListenerKey, VecDeque<OpKey>)> {
        let (key, _) = self.find(fd)?;
        let place = &mut self.places[key.place as usize];
        place.generation = place.generation.wrapping_add(1);
        place
            .listener
            .take()
            .map(|listener| (key, listener.waiting))
    }
}

impl Listener {
    fn arm_if_needed(&mut self, key: ListenerKey) -> Need {
        if self.is_armed || self.waiting.is_empty() {
            return Need::Nothing;
        }
        self.is_armed = true;
        Need::Arm(key, self.fd)
    }

    fn need(&mut self, key: ListenerKey) -> Need {
        if self.is_armed && !self.is_stopping && self.ready.len() >= MAX_READY {
            self.is_stopping = true;
            return Need::Stop(key);
        }
        self.arm_if_needed(key)
    }
}

fn is_cancel(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> io::Result<OwnedFd> {
        Ok(OwnedFd::from(std::fs::File::open("/dev/null")?))
    }

    fn op(number: u64) -> OpKey {
        OpKey::from_word(number)
    }

    #[test]
    fn a_listener_is_armed_once_and_serves_in_order() {
        let mut listeners = Listeners::default();
        listeners.add(7).unwrap();
        let (none, need) = listeners.accept(7, op(1));
        let Need::Arm(key, 7) = need else {
            panic!("{need:?}")
        };
        assert!(none.is_none());
        assert_eq!(listeners.accept(7, op(2)).1, Need::Nothing);
        let (delivery, need) = listeners.completed(key, socket(), true);
        assert_eq!((delivery.unwrap().0, need), (op(1), Need::Nothing));
        // The kernel ended the multishot: it is armed again for the one who still waits.
        let (delivery, need) =
            listeners.completed(key, Err(io::Error::from_raw_os_error(libc::EMFILE)), false);
        let (served, result) = delivery.unwrap();
        assert_eq!(served, op(2));
        assert!(result.is_err());
        assert_eq!(need, Need::Nothing);
        assert!(matches!(listeners.accept(7, op(3)).1, Need::Arm(..)));
    }

    #[test]
    fn unasked_connections_are_bounded() {
        let mut listeners = Listeners::default();
        listeners.add(7).unwrap();
        let (_, need) = listeners.accept(7, op(1));
        let Need::Arm(key, _) = need else {
            panic!("{need:?}")
        };
        listeners.completed(key, socket(), true);
        for count in 1..MAX_READY {
            assert_eq!(
                listeners.completed(key, socket(), true).1,
                Need::Nothing,
                "{count}"
            );
        }
        assert_eq!(listeners.completed(key, socket(), true).1, Need::Stop(key));
        let stopped = io::Error::from_raw_os_error(libc::ECANCELED);
        assert_eq!(
            listeners.completed(key, Err(stopped), false).1,
            Need::Nothing
        );
        for number in 0..MAX_READY as u64 {
            assert!(listeners.accept(7, op(number)).0.is_some());
        }
        assert!(matches!(listeners.accept(7, op(99)), (None, Need::Arm(..))));
    }

    #[test]
    fn a_reused_place_ignores_its_former_listener() {
        let mut listeners = Listeners::default();
        listeners.add(7).unwrap();
        let (_, need) = listeners.accept(7, op(1));
        let Need::Arm(old, _) = need else {
            panic!("{need:?}")
        };
        let (key, waiting) = listeners.remove(7).unwrap();
        assert_eq!((key, waiting.len()), (old, 1));
        listeners.add(8).unwrap();
        assert!(listeners.completed(old, socket(), true).0.is_none());
        assert!(matches!(listeners.accept(8, op(2)), (None, Need::Arm(..))));
    }
}
