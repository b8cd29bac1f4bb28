//! What an unreadable batch means: facts in, verdict out.

/// Why the batch that should come next cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No header of this volume, epoch, sequence and position is there.
    Header,
    /// The header is good, the payload is not what it says.
    Payload,
    /// The device cannot read it.
    Read,
}

/// What to do with the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The log ends here. Either nothing was written behind, or what was written is torn and was
    /// never acknowledged (batches are acknowledged in order).
    EndOfLog,
    /// A later batch proves that this one was durable: it was damaged afterwards, by bit rot, a
    /// misdirected or a lost write. Serving the volume would serve old data for new.
    Corruption,
    /// The device cannot tell. It may work again later, or elsewhere: nothing is changed.
    DeviceError,
}

/// One row: the failure, whether a later valid batch covers it, the verdict.
type Row = (Failure, bool, Verdict);

/// The decision table of docs/format.md, "Recovery".
pub const TABLE: [Row; 6] = [
    (Failure::Header, false, Verdict::EndOfLog),
    (Failure::Header, true, Verdict::Corruption),
    (Failure::Payload, false, Verdict::EndOfLog),
    (Failure::Payload, true, Verdict::Corruption),
    (Failure::Read, false, Verdict::DeviceError),
    (Failure::Read, true, Verdict::DeviceError),
];

/// Looks the facts up in [`TABLE`].
pub fn decide(failure: Failure, covered_by_later: bool) -> Verdict {
    let row = TABLE
        .iter()
        .find(|row| row.0 == failure && row.1 == covered_by_later);
    row.map_or(Verdict::Corruption, |row| row.2)
}

/// What a direct record's page means when the data in the cluster does not match its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectVerdict {
    /// A later record replaced the page: nobody will read it.
    Superseded,
    /// It was durable once: reads of the page fail, nothing else is affected.
    Damaged,
    /// The write was never durable: the old mapping stays.
    NeverHappened,
}

/// Decides for one page of a direct record whose data does not match.
pub fn decide_direct(superseded: bool, covered_by_durable: bool) -> DirectVerdict {
    match (superseded, covered_by_durable) {
        (true, _) => DirectVerdict::Superseded,
        (false, true) => DirectVerdict::Damaged,
        (false, false) => DirectVerdict::NeverHappened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_exactly_one_row() {
        for failure in [Failure::Header, Failure::Payload, Failure::Read] {
            for covered in [false, true] {
                let rows = TABLE
                    .iter()
                    .filter(|row| row.0 == failure && row.1 == covered);
                assert_eq!(rows.count(), 1, "{failure:?} covered={covered}");
            }
        }
    }

    #[test]
    fn only_an_uncovered_failure_ends_the_log() {
        for (failure, covered, verdict) in TABLE {
            let torn = failure != Failure::Read && !covered;
            assert_eq!(
                verdict == Verdict::EndOfLog,
                torn,
                "{failure:?} covered={covered}"
            );
            assert_eq!(decide(failure, covered), verdict);
        }
    }

    #[test]
    fn damaged_direct_data_is_never_forgotten_once_durable() {
        assert_eq!(decide_direct(false, true), DirectVerdict::Damaged);
        assert_eq!(decide_direct(false, false), DirectVerdict::NeverHappened);
        assert_eq!(decide_direct(true, true), DirectVerdict::Superseded);
        assert_eq!(decide_direct(true, false), DirectVerdict::Superseded);
    }
}
