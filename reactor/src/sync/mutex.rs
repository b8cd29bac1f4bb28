//! Exclusive access that may be held over an await.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::credits::{Credits, Guard};

/// A value that one task at a time may use, in FIFO order.
pub struct Mutex<T> {
    turn: Credits,
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// An unlocked value.
    pub fn new(value: T) -> Mutex<T> {
        Mutex {
            turn: Credits::new(1),
            value: RefCell::new(value),
        }
    }

    /// Waits for its turn. Cancel: gives its place in the line to the next.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        let turn = self.turn.acquire(1).await;
        MutexGuard {
            value: self.value.borrow_mut(),
            _turn: turn,
        }
    }

    /// Locks if nobody has it or waits for it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let turn = self.turn.try_acquire(1)?;
        Some(MutexGuard {
            value: self.value.borrow_mut(),
            _turn: turn,
        })
    }

    /// The value, without a lock: nobody else can have a reference.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mutex").field(&self.value).finish()
    }
}

/// A locked value.
pub struct MutexGuard<'a, T> {
    // Before the turn: the value is free when the next task gets its turn.
    value: RefMut<'a, T>,
    _turn: Guard,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
