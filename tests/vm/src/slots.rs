//! Records whose whole content follows from their number, in a ring of slots on a file or device.
//!
//! Record `n` (from 1) of a run lies in slot `n % slots` and is written before record `n + 1`, so
//! once the writer has stopped every slot must hold exactly the newest record that belongs there.
//! A record that is torn, old, misplaced or from another run is told apart.

/// Marks the first bytes of a record.
const MAGIC: &[u8; 8] = b"BPSLOT01";
/// Magic, run and number; the rest is a pattern made from the two.
const HEADER_LEN: usize = 24;

/// What lies in a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slot {
    /// A whole record of this run, with its number.
    Record(u64),
    /// Begins as record `n` of this run does, and then differs: a torn or damaged write.
    Damaged(u64),
    /// Nothing of this run.
    Foreign,
}

/// A slot that does not hold what it must.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wrong {
    /// Which slot.
    pub slot: u64,
    /// What it holds.
    pub found: Slot,
    /// The record it must hold; `None` when the writer never came to it.
    pub expected: Option<u64>,
}

/// Fills `buffer` with record `number` of `run`. A buffer shorter than a header is left alone.
pub fn fill(run: u64, number: u64, buffer: &mut [u8]) {
    let Some((header, body)) = buffer.split_at_mut_checked(HEADER_LEN) else {
        return;
    };
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&run.to_le_bytes());
    header[16..].copy_from_slice(&number.to_le_bytes());
    let mut state = seed(run, number);
    for chunk in body.chunks_mut(8) {
        state = step(state);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// Says what `bytes`, the content of one slot, are in `run`.
#[must_use]
pub fn read(run: u64, bytes: &[u8]) -> Slot {
    let Some(header) = bytes.get(..HEADER_LEN) else {
        return Slot::Foreign;
    };
    if header[..8] != MAGIC[..] || header[8..16] != run.to_le_bytes() {
        return Slot::Foreign;
    }
    let mut number = [0; 8];
    number.copy_from_slice(&header[16..]);
    let number = u64::from_le_bytes(number);
    let mut expected = vec![0; bytes.len()];
    fill(run, number, &mut expected);
    if expected == bytes {
        Slot::Record(number)
    } else {
        Slot::Damaged(number)
    }
}

/// The newest record among `slots`, given in order, and every slot that contradicts it.
#[must_use]
pub fn judge(slots: &[Slot]) -> (u64, Vec<Wrong>) {
    let newest = slots.iter().filter_map(|slot| match slot {
        Slot::Record(number) => Some(*number),
        Slot::Damaged(_) | Slot::Foreign => None,
    });
    let newest = newest.max().unwrap_or(0);
    let mut wrong = Vec::new();
    for (slot, &found) in (0..).zip(slots) {
        let expected = expected_in(slot, slots.len() as u64, newest);
        let good = match expected {
            Some(number) => found == Slot::Record(number),
            None => found == Slot::Foreign,
        };
        if !good {
            wrong.push(Wrong {
                slot,
                found,
                expected,
            });
        }
    }
    (newest, wrong)
}

/// The newest record up to `newest` that belongs in `slot` of `slots`.
fn expected_in(slot: u64, slots: u64, newest: u64) -> Option<u64> {
    let behind = (newest % slots + slots - slot) % slots;
    newest.checked_sub(behind).filter(|&number| number > 0)
}

fn seed(run: u64, number: u64) -> u64 {
    // Never 0, the one state xorshift does not leave.
    (run ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1
}

/// One step of xorshift64.
fn step(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 77;

    fn record(number: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        fill(RUN, number, &mut bytes);
        bytes
    }

    #[test]
    fn a_record_is_read_back() {
        for len in [HEADER_LEN, 512, 4096, 4099] {
            assert_eq!(read(RUN, &record(5, len)), Slot::Record(5));
        }
    }

    #[test]
    fn damage_anywhere_is_seen() {
        let whole = record(5, 4096);
        for position in [24, 511, 512, 2048, 4095] {
            let mut torn = whole.clone();
            torn[position] ^= 1;
            assert_eq!(read(RUN, &torn), Slot::Damaged(5), "{position}");
        }
        let mut half = record(6, 4096);
        half[2048..].copy_from_slice(&whole[2048..]);
        assert_eq!(read(RUN, &half), Slot::Damaged(6));
    }

    #[test]
    fn other_runs_and_short_buffers_are_foreign() {
        assert_eq!(read(RUN + 1, &record(5, 512)), Slot::Foreign);
        assert_eq!(read(RUN, &[0; 4096]), Slot::Foreign);
        assert_eq!(read(RUN, &record(5, 512)[..23]), Slot::Foreign);
        assert_eq!(read(RUN, &[]), Slot::Foreign);
    }

    /// The slots after a writer stopped having written `newest` records into `count` slots.
    fn after(newest: u64, count: u64) -> Vec<Slot> {
        let mut slots = vec![Slot::Foreign; usize::try_from(count).unwrap()];
        for number in 1..=newest {
            slots[usize::try_from(number % count).unwrap()] = Slot::Record(number);
        }
        slots
    }

    #[test]
    fn what_a_writer_leaves_is_right() {
        for count in [1, 2, 7] {
            for newest in 0..30 {
                assert_eq!(
                    judge(&after(newest, count)),
                    (newest, Vec::new()),
                    "{newest}/{count}"
                );
            }
        }
    }

    #[test]
    fn a_lost_an_old_and_a_torn_record_are_named() {
        for bad in [Slot::Foreign, Slot::Record(4), Slot::Damaged(11)] {
            let mut slots = after(12, 7);
            slots[4] = bad;
            let wrong = Wrong {
                slot: 4,
                found: bad,
                expected: Some(11),
            };
            assert_eq!(judge(&slots), (12, vec![wrong]));
        }
    }

    #[test]
    fn a_record_where_none_belongs_is_named() {
        let mut slots = after(3, 7);
        slots[6] = Slot::Damaged(13);
        let wrong = Wrong {
            slot: 6,
            found: Slot::Damaged(13),
            expected: None,
        };
        assert_eq!(judge(&slots), (3, vec![wrong]));
    }
}
