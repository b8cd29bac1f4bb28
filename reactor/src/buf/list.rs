//! An ordered list of buffer slices: what one read or write moves.

use std::cell::RefCell;
use std::ops::Index;

use super::arena::Buf;

/// Emptied lists kept per thread, so that making a list allocates nothing after warm-up.
const SPARE_LISTS: usize = 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<Buf>>> = const { RefCell::new(Vec::new()) };
}

/// An ordered list of [`Buf`] slices. Its storage is recycled when it is dropped.
#[derive(Debug)]
pub struct BufList {
    bufs: Vec<Buf>,
    len_bytes: usize,
}

impl BufList {
    /// An empty list.
    pub fn new() -> BufList {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        BufList {
            bufs: spare.ok().flatten().unwrap_or_default(),
            len_bytes: 0,
        }
    }

    /// Appends a slice; empty slices are left out.
    pub fn push(&mut self, buf: Buf) {
        if !buf.is_empty() {
            self.len_bytes += buf.len();
            self.bufs.push(buf);
        }
    }

    /// Takes the last slice off.
    pub fn pop(&mut self) -> Option<Buf> {
        let buf = self.bufs.pop()?;
        self.len_bytes -= buf.len();
        Some(buf)
    }

    /// Bytes of all slices.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Number of slices.
    pub fn len(&self) -> usize {
        self.bufs.len()
    }

    /// Whether there is no slice.
    pub fn is_empty(&self) -> bool {
        self.bufs.is_empty()
    }

    /// Drops every slice and keeps the storage.
    pub fn clear(&mut self) {
        self.bufs.clear();
        self.len_bytes = 0;
    }

    /// The slices in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Buf> {
        self.bufs.iter()
    }

    /// The bytes of one slice for writing; `None` when it is shared or not there.
    pub fn try_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.bufs.get_mut(index)?.try_mut()
    }

    /// Whether every slice may be written.
    pub fn is_unique(&self) -> bool {
        self.bufs.iter().all(Buf::is_unique)
    }

    /// Copies bytes into the list from byte `at` on. Returns how many fitted.
    /// Panics when a slice it meets is shared.
    pub fn copy_in(&mut self, mut at: usize, mut bytes: &[u8]) -> usize {
        let whole = bytes.len();
        for buf in &mut self.bufs {
            if at >= buf.len() {
                at -= buf.len();
                continue;
            }
            let count = bytes.len().min(buf.len() - at);
            buf.as_mut()[at..at + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            at = 0;
            if bytes.is_empty() {
                break;
            }
        }
        whole - bytes.len()
    }

    /// Copies bytes out of the list from byte `at` on. Returns how many there were.
    pub fn copy_out(&self, mut at: usize, mut bytes: &mut [u8]) -> usize {
        let whole = bytes.len();
        for buf in &self.bufs {
            if at >= buf.len() {
                at -= buf.len();
                continue;
            }
            let count = bytes.len().min(buf.len() - at);
            bytes[..count].copy_from_slice(&buf[at..at + count]);
            bytes = &mut bytes[count..];
            at = 0;
            if bytes.is_empty() {
                break;
            }
        }
        whole - bytes.len()
    }
}

impl Default for BufList {
    fn default() -> BufList {
        BufList::new()
    }
}

impl From<Buf> for BufList {
    fn from(buf: Buf) -> BufList {
        let mut list = BufList::new();
        list.push(buf);
        list
    }
}

impl Extend<Buf> for BufList {
    fn extend<I: IntoIterator<Item = Buf>>(&mut self, bufs: I) {
        bufs.into_iter().for_each(|buf| self.push(buf));
    }
}

impl FromIterator<Buf> for BufList {
    fn from_iter<I: IntoIterator<Item = Buf>>(bufs: I) -> BufList {
        let mut list = BufList::new();
        list.extend(bufs);
        list
    }
}

impl Index<usize> for BufList {
    type Output = Buf;

    fn index(&self, index: usize) -> &Buf {
        &self.bufs[index]
    }
}

impl<'a> IntoIterator for &'a BufList {
    type Item = &'a Buf;
    type IntoIter = std::slice::Iter<'a, Buf>;

    fn into_iter(self) -> Self::IntoIter {
        self.bufs.iter()
    }
}

impl Drop for BufList {
    fn drop(&mut self) {
        if self.bufs.capacity() == 0 {
            return;
        }
        self.bufs.clear();
        let bufs = std::mem::take(&mut self.bufs);
        // The thread may be ending: then the storage is just freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_LISTS {
                spare.push(bufs);
            }
        });
    }
}
