//! The bytes of a disk: sparse, cheap to copy, zero where never written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// Size of one page of an image; independent of the disk's logical block.
pub(crate) const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// A sparse byte image. Cloning shares the pages, so a snapshot costs memory only for what is
/// written afterwards.
#[derive(Clone, Default)]
pub struct Image {
    pages: BTreeMap<u64, Rc<Page>>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} pages)", self.pages.len())
    }
}

/// Cuts `range` at page borders: (page, range inside the page, range inside the buffer).
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0usize;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let inside = (at % PAGE) as usize;
        let count = (PAGE as usize - inside).min(len - done);
        let piece = (at / PAGE, inside..inside + count, done..done + count);
        done += count;
        Some(piece)
    })
}

impl Image {
    /// Copies bytes out; unwritten places read as zero.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        for (page, inside, buffer) in pieces(offset, out.len()) {
            match self.pages.get(&page) {
                Some(bytes) => out[buffer].copy_from_slice(&bytes[inside]),
                None => out[buffer].fill(0),
            }
        }
    }

    /// Copies bytes in.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (page, inside, buffer) in pieces(offset, data.len()) {
            let bytes = self
                .pages
                .entry(page)
                .or_insert_with(|| Rc::new([0; PAGE as usize]));
            Rc::make_mut(bytes)[inside].copy_from_slice(&data[buffer]);
        }
    }

    /// Makes the range read as zero and gives whole pages back.
    pub fn zero(&mut self, range: Range<u64>) {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        if whole.start < whole.end {
            let freed: Vec<u64> = self.pages.range(whole).map(|(page, _)| *page).collect();
            for page in freed {
                self.pages.remove(&page);
            }
        }
        self.zero_edge(range.start..range.end.min(range.start.next_multiple_of(PAGE)));
        self.zero_edge(range.start.max(range.end - range.end % PAGE)..range.end);
    }

    /// Zeroes a range inside one page without making the page exist.
    fn zero_edge(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some(bytes) = self.pages.get_mut(&(range.start / PAGE)) {
            let start = (range.start % PAGE) as usize;
            Rc::make_mut(bytes)[start..start + (range.end - range.start) as usize].fill(0);
        }
    }

    /// Whether every page of the range was written before (no new space is needed).
    pub(crate) fn is_allocated(&self, range: Range<u64>) -> bool {
        (range.start / PAGE..range.end.div_ceil(PAGE)).all(|page| self.pages.contains_key(&page))
    }

    /// Space in use.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Flips one bit; `bit` counts from the least significant.
    pub(crate) fn flip(&mut self, offset: u64, bit: u8) {
        let mut byte = [0];
        self.read(offset, &mut byte);
        self.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(image: &Image, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xEE; len];
        image.read(offset, &mut out);
        out
    }

    #[test]
    fn reads_back_across_pages_and_zero_elsewhere() {
        let mut image = Image::default();
        let data: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        image.write(4_000, &data);
        assert_eq!(read(&image, 4_000, 10_000), data);
        assert_eq!(read(&image, 0, 4_000), vec![0; 4_000]);
        assert_eq!(read(&image, 14_000, 5_000), vec![0; 5_000]);
        assert!(image.is_allocated(0..14_000) && !image.is_allocated(0..20_000));
    }

    #[test]
    fn zero_clears_exactly_the_range_and_frees_whole_pages() {
        for range in [
            0..4096,
            100..200,
            100..5_000,
            4_095..12_289,
            5_000..5_000,
            1..20_480,
        ] {
            let mut image = Image::default();
            image.write(0, &[7; 20_480]);
            image.zero(range.clone());
            let bytes = read(&image, 0, 20_480);
            for (at, byte) in bytes.iter().enumerate() {
                let expect = if range.contains(&(at as u64)) { 0 } else { 7 };
                assert_eq!(*byte, expect, "offset {at} of {range:?}");
            }
        }
        let mut image = Image::default();
        image.write(0, &[7; 20_480]);
        image.zero(0..20_480);
        assert_eq!(image.allocated_bytes(), 0);
    }

    #[test]
    fn a_clone_is_a_snapshot() {
        let mut image = Image::default();
        image.write(0, &[1; 8192]);
        let before = image.clone();
        image.write(4096, &[2; 4096]);
        image.flip(0, 3);
        assert_eq!(read(&before, 0, 8192), vec![1; 8192]);
        assert_eq!(read(&image, 0, 1), [1 ^ 8]);
    }
}
