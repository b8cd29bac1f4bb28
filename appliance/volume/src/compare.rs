//! Compare, compare-and-write, and or: atomic against every write of the same pages.

use std::rc::Rc;

use reactor::buf::Buf;

use crate::core::Core;
use crate::error::VolumeError;
use crate::pages::{PAGE, PAGE_BYTES, PageRange};
use crate::request::{Completion, Span, VolumeInfo};

impl Core {
    /// Succeeds when the blocks at `lba` equal `data`; else names the first that differs.
    pub async fn compare(self: &Rc<Self>, lba: u64, data: Buf) -> Completion {
        let span = self.info().payload(lba, &data)?;
        let _lock = self.locks.acquire(PageRange::covering(span)).await;
        self.compare_locked(lba, span, &data).await?;
        Ok(None)
    }

    /// Writes `write` if the blocks equal `compare`.
    pub async fn compare_and_write(
        self: &Rc<Self>,
        lba: u64,
        compare: Buf,
        write: Buf,
        fua: bool,
    ) -> Completion {
        check_pair(self.info(), &compare, &write)?;
        let span = self.info().payload(lba, &write)?;
        let lock = self.locks.acquire(PageRange::covering(span)).await;
        self.compare_locked(lba, span, &compare).await?;
        drop(compare);
        self.write_locked(span, write, lock, fua).await
    }

    /// Writes what the blocks hold or'ed with `data`, which nobody shares.
    pub async fn or(self: &Rc<Self>, lba: u64, mut data: Buf, fua: bool) -> Completion {
        let span = self.info().payload(lba, &data)?;
        let lock = self.locks.acquire(PageRange::covering(span)).await;
        let bytes = data.as_mut();
        self.each_page_locked(span, |at, current| {
            or_into(&mut bytes[at..at + current.len()], current);
            Ok(())
        })
        .await?;
        self.write_locked(span, data, lock, fua).await
    }

    async fn compare_locked(
        self: &Rc<Self>,
        lba: u64,
        span: Span,
        data: &[u8],
    ) -> Result<(), VolumeError> {
        let block_len = self.info().block_bytes as usize;
        self.each_page_locked(span, |at, current| {
            let wanted = &data[at..at + current.len()];
            match first_difference(current, wanted, block_len) {
                None => Ok(()),
                Some((block, byte)) => Err(VolumeError::CompareMismatch {
                    lba: lba + (at / block_len + block) as u64,
                    byte,
                }),
            }
        })
        .await
    }

    /// Shows `look` what the span holds, with its offset in the span. Page by page: the caller holds
    /// the host's data already and must not wait for more memory.
    async fn each_page_locked(
        self: &Rc<Self>,
        span: Span,
        mut look: impl FnMut(usize, &[u8]) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let range = PageRange::covering(span);
        let (mut page_buf, _scratch) = self.scratch_pages(PAGE_BYTES).await;
        for page in range.first..range.end() {
            self.fill_page(page, page_buf.as_mut()).await?;
            let from = span.offset_bytes.max(page * PAGE);
            let to = (span.offset_bytes + span.len_bytes).min((page + 1) * PAGE);
            let current = &page_buf[(from - page * PAGE) as usize..(to - page * PAGE) as usize];
            look((from - span.offset_bytes) as usize, current)?;
        }
        Ok(())
    }
}

/// Sets in `into` the bits that are set in `other`, which is as long.
pub(crate) fn or_into(into: &mut [u8], other: &[u8]) {
    for (byte, other) in into.iter_mut().zip(other) {
        *byte |= other;
    }
}

/// The first difference: block, and byte inside it.
pub(crate) fn first_difference(
    left: &[u8],
    right: &[u8],
    block_len: usize,
) -> Option<(usize, u32)> {
    let mut blocks = left.chunks(block_len).zip(right.chunks(block_len));
    let block = blocks.clone().position(|(left, right)| left != right)?;
    let (left, right) = blocks.nth(block)?;
    let byte = left
        .iter()
        .zip(right)
        .position(|(left, right)| left != right)?;
    Some((block, byte as u32))
}

/// Both payloads of a compare-and-write must have one length.
pub(crate) fn check_pair(info: &VolumeInfo, compare: &Buf, write: &Buf) -> Result<(), VolumeError> {
    if compare.len() == write.len() {
        return Ok(());
    }
    let len_bytes = compare.len() as u64;
    Err(VolumeError::BadLength {
        len_bytes,
        block_bytes: info.block_bytes,
    })
}
