//! A device in the memory of this process: for measuring what is above it. It keeps nothing.

use std::cell::{Cell, RefCell};
use std::io;

use reactor::buf::{Buf, BufList, Region};

/// Bytes moved before the caller gives way to the other tasks of its core. On any other device each
/// operation waits, and loops over many blocks (deleting a volume, replaying a journal) lean on
/// that to let hosts through. Large enough to cost nothing for each 4 KiB, small enough to be over
/// in some hundred microseconds.
const TURN_BYTES: usize = 1 << 20;

/// Mapped memory that reads as zeroes until it is written.
pub(crate) struct Memory {
    region: RefCell<Region>,
    moved_bytes: Cell<usize>,
}

impl Memory {
    /// Memory of `len_bytes`, taken from the machine at once: a fault in the middle of a
    /// measurement would be part of it.
    pub(crate) fn map(len_bytes: usize) -> io::Result<Memory> {
        let region = Region::map(len_bytes)?;
        region.populate()?;
        Ok(Memory {
            region: RefCell::new(region),
            moved_bytes: Cell::new(0),
        })
    }

    /// As `fs::File::read_at`: fills an unshared buffer.
    pub(crate) async fn read(&self, offset: u64, mut buf: Buf) -> (io::Result<()>, Buf) {
        self.give_way(buf.len()).await;
        let result = match buf.try_mut() {
            Some(bytes) => {
                self.copy_out(offset as usize, bytes);
                Ok(())
            }
            None => Err(shared()),
        };
        (result, buf)
    }

    /// As `read`, into several buffers.
    pub(crate) async fn read_list(
        &self,
        offset: u64,
        mut list: BufList,
    ) -> (io::Result<()>, BufList) {
        self.give_way(list.len_bytes()).await;
        if !list.is_unique() {
            return (Err(shared()), list);
        }
        let mut at = offset as usize;
        for index in 0..list.len() {
            let bytes = list.try_mut(index).expect("unshared, checked above");
            self.copy_out(at, bytes);
            at += bytes.len();
        }
        (Ok(()), list)
    }

    /// Copies all of the list. Nothing is written when the caller goes away before its turn.
    pub(crate) async fn write(&self, offset: u64, list: BufList) -> (io::Result<()>, BufList) {
        self.give_way(list.len_bytes()).await;
        let parts = list.iter().map(|buf| &buf[..]);
        self.region.borrow_mut().store(offset as usize, parts);
        (Ok(()), list)
    }

    /// Makes zeroes of a range. The machine does not get its memory back.
    pub(crate) async fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let end = (offset + len_bytes) as usize;
        let mut from = offset as usize;
        while from < end {
            let here = TURN_BYTES.min(end - from);
            self.give_way(here).await;
            self.region.borrow_mut().bytes_mut()[from..from + here].fill(0);
            from += here;
        }
        Ok(())
    }

    fn copy_out(&self, from: usize, bytes: &mut [u8]) {
        let region = self.region.borrow();
        bytes.copy_from_slice(&region.bytes()[from..from + bytes.len()]);
    }

    /// Counts bytes that are about to move; lets the others run first when enough have.
    async fn give_way(&self, len_bytes: usize) {
        let moved_bytes = self.moved_bytes.get() + len_bytes;
        if moved_bytes < TURN_BYTES {
            self.moved_bytes.set(moved_bytes);
            return;
        }
        self.moved_bytes.set(0);
        reactor::next_turn().await;
    }
}

fn shared() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidInput)
}
