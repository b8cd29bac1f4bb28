//! What a unit is called. The same identity as the NVMe namespace of the volume.
//!
//! Source: SPC-4 section 7.8.6.

use volume::VolumeInfo;

/// T10 vendor identification.
pub(super) const VENDOR: &[u8; 8] = b"BEDPLATE";
/// Product identification.
pub(super) const PRODUCT: &[u8; 16] = b"Volume          ";

/// NAA IEEE Registered Extended: the namespace's globally unique identifier in another order.
///
/// An NGUID is 8 bytes of extension, 3 of organisation, 5 of the organisation's own; NAA 6 is a
/// nibble, the organisation, 36 bits of its own, and 8 bytes of extension. 4 bits are left out.
pub(super) fn naa(info: &VolumeInfo) -> [u8; 16] {
    let nguid = u128::from_be_bytes(info.nguid);
    let (extension, organisation) = ((nguid >> 64) as u64, nguid as u64);
    let high = 6 << 60 | organisation >> 4;
    (u128::from(high) << 64 | u128::from(extension)).to_be_bytes()
}

/// T10 vendor identification and the serial number.
pub(super) fn t10(info: &VolumeInfo) -> [u8; 28] {
    let mut bytes = [b' '; 28];
    bytes[..8].copy_from_slice(VENDOR);
    bytes[8..].copy_from_slice(&info.serial);
    bytes
}

/// Whether a designator of the given type names the unit of this volume.
pub(super) fn is_named_by(info: &VolumeInfo, kind: u8, designator: &[u8]) -> bool {
    match kind {
        0x1 => trimmed(designator) == trimmed(&t10(info)),
        0x2 => designator == info.nguid,
        0x3 => designator == naa(info),
        _ => false,
    }
}

/// Without spaces and zeros at the end: fields of fixed width are padded with either.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !matches!(byte, b' ' | 0));
    &bytes[..end.map_or(0, |end| end + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use volume::VolumeId;

    fn info() -> VolumeInfo {
        VolumeInfo {
            id: VolumeId(1),
            name: "v".into(),
            uuid: [1; 16],
            nguid: *b"\x01\x02\x03\x04\x05\x06\x07\x08\xa2\xb3\xc4\xd5\xe6\xf7\x18\x29",
            serial: *b"BDPL0000000000000001",
            block_count: 1,
            block_bytes: 512,
            volatile_cache: false,
        }
    }

    #[test]
    fn naa_is_the_nguid_in_its_own_order() {
        let expected = *b"\x6a\x2b\x3c\x4d\x5e\x6f\x71\x82\x01\x02\x03\x04\x05\x06\x07\x08";
        assert_eq!(naa(&info()), expected);
    }

    #[test]
    fn a_unit_is_found_by_each_of_its_names() {
        let info = info();
        assert!(is_named_by(&info, 3, &naa(&info)));
        assert!(is_named_by(&info, 2, &info.nguid));
        assert!(is_named_by(&info, 1, b"BEDPLATEBDPL0000000000000001"));
        assert!(!is_named_by(&info, 1, b"BEDPLATEBDPL0000000000000002"));
        assert!(!is_named_by(&info, 3, &info.nguid));
        assert!(!is_named_by(&info, 8, &naa(&info)));
        assert!(!is_named_by(&info, 3, &[]));
    }
}
