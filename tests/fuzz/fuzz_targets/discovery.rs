//! A discovery log: header and entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::fabrics::discovery::{DiscoveryEntry, DiscoveryHeader};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = DiscoveryHeader::check(bytes) {
        assert_eq!(header.recfmt.get(), 0);
        let entries = bytes.get(DiscoveryHeader::SIZE..).unwrap_or_default();
        entries.chunks(DiscoveryEntry::SIZE).for_each(entry);
    }
    entry(bytes);
});

fn entry(bytes: &[u8]) {
    let Ok(entry) = DiscoveryEntry::decode(bytes) else {
        assert!(bytes.len() < DiscoveryEntry::SIZE);
        return;
    };
    assert!(entry.traddr.as_str().len() <= 256 && entry.trsvcid.as_str().len() <= 32);
    if let Ok(name) = entry.subnqn.parse("SUBNQN") {
        assert!(name.len() <= 223);
    }
    let _ = format!("{entry:?}");
    assert_eq!(entry.as_wire(), &bytes[..DiscoveryEntry::SIZE]);
}
