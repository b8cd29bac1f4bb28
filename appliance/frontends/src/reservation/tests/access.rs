//! Who may do what under each type: SPC-4 table 64, base 2.0 section 8.19.

use super::*;

/// Rows: type; then for the holder, another registrant, and others: r read, w write, - neither.
const TABLE: [(Kind, &str, &str, &str); 6] = [
    (Kind::WriteExclusive, "rw", "r-", "r-"),
    (Kind::ExclusiveAccess, "rw", "--", "--"),
    (Kind::WriteExclusiveRegistrantsOnly, "rw", "rw", "r-"),
    (Kind::ExclusiveAccessRegistrantsOnly, "rw", "rw", "--"),
    (Kind::WriteExclusiveAllRegistrants, "rw", "rw", "r-"),
    (Kind::ExclusiveAccessAllRegistrants, "rw", "rw", "--"),
];

fn rights(state: &State, who: &Identity) -> String {
    let may = |access, letter| match state.allows(who, access) {
        true => letter,
        false => '-',
    };
    [may(Access::Read, 'r'), may(Access::Write, 'w')]
        .iter()
        .collect()
}

#[test]
fn each_type_gives_and_takes_its_rights() {
    let [holder, registrant, other, _] = hosts();
    for (kind, of_holder, of_registrant, of_other) in TABLE {
        let state = reserved(2, kind);
        assert_eq!(rights(&state, &holder), of_holder, "{kind:?}");
        assert_eq!(rights(&state, &registrant), of_registrant, "{kind:?}");
        assert_eq!(rights(&state, &other), of_other, "{kind:?}");
        for who in hosts() {
            assert!(state.allows(&who, Access::Other), "{kind:?}");
        }
    }
    for who in hosts() {
        assert_eq!(rights(&registered(2), &who), "rw", "nothing is reserved");
    }
}

/// The same initiator port at another target port is another nexus; an NVMe host is one wherever.
#[test]
fn a_nexus_is_a_pair_of_ports() {
    let state = reserved(1, Kind::ExclusiveAccess);
    assert_eq!(rights(&state, &scsi("a", 1)), "rw");
    assert_eq!(rights(&state, &scsi("a", 2)), "--");
}

#[test]
fn types_have_their_values_in_both_protocols() {
    let scsi: Vec<u8> = Kind::ALL.iter().map(|kind| kind.scsi()).collect();
    assert_eq!(scsi, [1, 3, 5, 6, 7, 8]);
    for value in 0..=u8::MAX {
        let found = Kind::from_scsi(value);
        assert_eq!(found.is_some(), scsi.contains(&value));
        assert!(found.is_none_or(|kind| kind.scsi() == value));
        let found = Kind::from_nvme(value);
        assert_eq!(found.is_some(), (1..=6).contains(&value));
        assert!(found.is_none_or(|kind| kind.nvme() == value));
    }
    assert_eq!(Kind::from_nvme(5), Kind::from_scsi(7));
}
