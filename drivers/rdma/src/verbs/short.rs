//! Where short messages lie between being posted and being sent.
#![expect(unsafe_code, reason = "writes to memory that the card reads")]

use std::io;
use std::ptr::{self, NonNull};

use reactor::buf::{self, Buf};

use super::ffi::{self, Sge};
use super::send_queue::Find;
use crate::INLINE_BYTES;

/// Where short messages lie until they are handed over, one place for each slot.
pub enum ShortMessages {
    /// The card copies them out of the work request.
    Inline(Box<[[u8; INLINE_BYTES]]>),
    /// The card reads them from here, while it has the slot.
    Registered {
        _memory: Buf,
        start: NonNull<u8>,
        key: u32,
    },
}

impl ShortMessages {
    /// Places in memory that the card reads. Errors: `OutOfMemory`.
    pub fn registered(count: usize, keys: impl Find) -> io::Result<ShortMessages> {
        let no_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let pool = buf::engine_pool();
        let mut memory = pool.try_alloc(count * INLINE_BYTES).ok_or_else(no_memory)?;
        let key = keys(&memory).ok_or_else(no_memory)?.local_key;
        let start = memory.try_mut().map(|bytes| NonNull::from(bytes).cast());
        Ok(ShortMessages::Registered {
            start: start.ok_or_else(no_memory)?,
            _memory: memory,
            key,
        })
    }

    /// Puts a message in the place of a slot, which the card does not have.
    pub fn put(&mut self, slot: usize, message: &[u8]) -> Sge {
        let length = message.len() as u32;
        match self {
            ShortMessages::Inline(places) => {
                places[slot][..message.len()].copy_from_slice(message);
                Sge {
                    addr: places[slot].as_ptr().expose_provenance() as u64,
                    length,
                    lkey: 0,
                }
            }
            ShortMessages::Registered { start, key, .. } => {
                // SAFETY: the buffer has a place for each slot, and a message is not longer than
                // one. The card reads only places of slots that it has; no reference exists.
                let place = unsafe {
                    let place = start.add(slot * INLINE_BYTES).as_ptr();
                    ptr::copy_nonoverlapping(message.as_ptr(), place, message.len());
                    place
                };
                Sge {
                    addr: place.expose_provenance() as u64,
                    length,
                    lkey: *key,
                }
            }
        }
    }

    /// What a work request says about them.
    pub fn flags(&self) -> u32 {
        match self {
            ShortMessages::Inline(_) => ffi::SEND_INLINE,
            ShortMessages::Registered { .. } => 0,
        }
    }
}
