//! Parameter lists of PERSISTENT RESERVE OUT, and TransportIDs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::scsi::Writer;
use wire::scsi::pr::{MoveList, OutList, TransportId};

/// What is read as a TransportID is written as one, and is the same again.
fn check(id: TransportId<'_>) {
    let mut bytes = [0; 512];
    let mut writer = Writer::new(&mut bytes);
    id.encode(&mut writer);
    let len = writer.len();
    assert!(len <= 4 + 244 && len % 4 == 0);
    let (again, rest) = TransportId::decode(&bytes[..len]).expect("what was written can be read");
    assert!(rest.is_empty());
    assert_eq!(again, id);
    assert_eq!(TransportId::of_name(id.name()), id);
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(list) = OutList::decode(bytes) {
        assert_eq!(list.is_plain(), bytes.len() == 24);
        if let Ok(ids) = list.transport_ids() {
            let count = ids.filter_map(Result::ok).map(check).count();
            assert!(count <= bytes.len() / 24);
        }
    }
    if let Ok(list) = MoveList::decode(bytes) {
        check(list.transport_id);
    }
    if let Ok((id, rest)) = TransportId::decode(bytes) {
        check(id);
        assert!(bytes.ends_with(rest));
    }
});
