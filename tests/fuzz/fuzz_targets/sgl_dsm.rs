//! SGL descriptors and Dataset Management ranges.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::nvme::SglDescriptor;
use wire::nvme::dsm::{DsmRange, decode_ranges};

fuzz_target!(|bytes: &[u8]| {
    for chunk in bytes.chunks(SglDescriptor::SIZE) {
        let Ok(descriptor) = SglDescriptor::decode(chunk) else {
            continue;
        };
        if let Ok(sgl) = descriptor.parse() {
            assert_eq!(sgl.encode().parse(), Ok(sgl));
            assert_eq!(sgl.encode().identifier, descriptor.identifier);
        }
    }
    let count = bytes.first().map_or(0, |first| usize::from(*first) + 1);
    for count in [count, bytes.len() / DsmRange::SIZE, 257] {
        match decode_ranges(bytes, count) {
            Ok(ranges) => assert!(ranges.len() == count && count <= 256),
            Err(_) => assert!(count == 0 || count > 256 || bytes.len() < count * DsmRange::SIZE),
        }
    }
});
