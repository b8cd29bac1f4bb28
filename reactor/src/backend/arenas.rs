//! The core's buffer arenas as a ring knows them: registered once, so that an operation on them
//! neither looks up nor pins its pages.
//!
//! Worth it for lists (6.18, direct I/O on ext4 over virtio, a busy machine of 2 CPUs; medians of
//! three runs of 11 pairs each, fixed / plain): 16 x 4 KiB at QD8 read in 0.73, 0.73 and 0.77 of
//! the CPU time, written in 0.81, 0.78 and 0.86. Single 4 KiB at QD32 read in 0.93, 0.95 and 0.96
//! of it, written in 0.94, 0.94 and 1.02: little, but it costs few lines. At QD1 nothing can be
//! told from noise (0.94..1.01). Elapsed time fell for list reads (0.81, 0.75, 0.89); 4 KiB writes
//! at QD32 had 1.08, 1.12 and 1.06, with spreads of 0.63..1.84 that leave it open; the rest is
//! noise. Run again with `--example file_io`.
//!
//! A buffer of another core's arena, and one that lies across two registered pieces, is not found
//! here and goes the ordinary way.

use crate::buf::{Buf, BufList, BufPool};

/// The kernel takes no longer piece.
const MAX_PIECE_BYTES: usize = 1 << 30;

/// A registered stretch of memory; its place in the list is its number in the ring's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) start: *mut u8,
    pub(super) len_bytes: usize,
}

pub(super) struct Arenas {
    // By address.
    pieces: Vec<Piece>,
    // The memory must not be unmapped and its addresses used again while they are registered: the
    // kernel would go on with the old pages.
    pools: Vec<BufPool>,
}

impl Arenas {
    pub(super) fn new(pools: Vec<BufPool>) -> Arenas {
        let mut pieces: Vec<Piece> = pools.iter().flat_map(cut).collect();
        pieces.sort_by_key(|piece| piece.start.addr());
        Arenas { pieces, pools }
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// A free buffer of any of the pools.
    pub(super) fn try_alloc(&self, len_bytes: usize) -> Option<Buf> {
        self.pools.iter().find_map(|pool| pool.try_alloc(len_bytes))
    }

    /// The number of the one piece that holds every byte of the list.
    pub(super) fn index_of(&self, list: &BufList) -> Option<u16> {
        let mut slices = list.iter().map(|buf| (buf.as_ptr().addr(), buf.len()));
        let (first, _) = slices.clone().next()?;
        let after = self
            .pieces
            .partition_point(|piece| piece.start.addr() <= first);
        let index = after.checked_sub(1)?;
        let piece = self.pieces[index];
        let (start, end) = (piece.start.addr(), piece.start.addr() + piece.len_bytes);
        slices
            .all(|(at, len)| at >= start && at + len <= end)
            .then_some(index as u16)
    }
}

fn cut(pool: &BufPool) -> impl Iterator<Item = Piece> {
    let (start, len_bytes) = pool.memory();
    (0..len_bytes)
        .step_by(MAX_PIECE_BYTES)
        .map(move |at| Piece {
            start: start.wrapping_add(at),
            len_bytes: MAX_PIECE_BYTES.min(len_bytes - at),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(len_bytes: usize) -> BufPool {
        BufPool::new(len_bytes, "arenas").unwrap()
    }

    #[test]
    fn a_buffer_is_found_in_its_own_arena() {
        let pools = [pool(4 << 20), pool(8 << 20)];
        let arenas = Arenas::new(pools.to_vec());
        let found = pools
            .iter()
            .map(|pool| arenas.index_of(&BufList::from(pool.try_alloc(4096).unwrap())));
        let found: Vec<u16> = found.map(Option::unwrap).collect();
        assert_ne!(found[0], found[1]);
        for (pool, index) in pools.iter().zip(found) {
            assert_eq!(arenas.pieces()[index as usize].start, pool.memory().0);
        }
    }

    #[test]
    fn lists_of_strangers_and_of_two_arenas_are_not_found() {
        let (own, other, foreign) = (pool(4 << 20), pool(4 << 20), pool(4 << 20));
        let arenas = Arenas::new(vec![own.clone(), other.clone()]);
        let of = |pools: &[&BufPool]| -> BufList {
            pools
                .iter()
                .map(|pool| pool.try_alloc(4096).unwrap())
                .collect()
        };
        assert!(arenas.index_of(&of(&[&own, &own])).is_some());
        assert_eq!(arenas.index_of(&of(&[&foreign])), None);
        assert_eq!(arenas.index_of(&of(&[&own, &other])), None);
        assert_eq!(arenas.index_of(&of(&[&own, &foreign])), None);
        assert_eq!(arenas.index_of(&BufList::new()), None);
    }

    #[test]
    fn a_buffer_across_two_pieces_is_not_found() {
        let pool = pool(4 << 20);
        let (start, len_bytes) = pool.memory();
        let buf = pool.try_alloc(1 << 20).unwrap();
        let middle = buf.as_ptr().addr() - start.addr() + 4096;
        let pieces = vec![
            Piece {
                start,
                len_bytes: middle,
            },
            Piece {
                start: start.wrapping_add(middle),
                len_bytes: len_bytes - middle,
            },
        ];
        let arenas = Arenas {
            pieces,
            pools: vec![pool],
        };
        assert_eq!(arenas.index_of(&BufList::from(buf.slice(..4096))), Some(0));
        assert_eq!(arenas.index_of(&BufList::from(buf.slice(4096..))), Some(1));
        assert_eq!(arenas.index_of(&BufList::from(buf)), None);
    }

    #[test]
    fn a_long_arena_is_cut_into_pieces_the_kernel_takes() {
        let pool = pool((2 << 30) + (4 << 20));
        let lens: Vec<usize> = cut(&pool).map(|piece| piece.len_bytes).collect();
        assert_eq!(lens[..2], [MAX_PIECE_BYTES; 2]);
        assert_eq!(lens.iter().sum::<usize>(), pool.memory().1);
    }
}
