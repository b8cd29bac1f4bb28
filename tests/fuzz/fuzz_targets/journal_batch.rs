//! A journal batch: the header's checksum is put right, so that its records are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::BLOCK_BYTES;
use store::journal::Identity;
use store::journal::batch::{BatchError, decode};

/// Where the checksum is in a batch header.
const CRC: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    let mut batch = bytes.to_vec();
    batch.resize(
        bytes.len().next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES),
        0,
    );
    let identity = Identity {
        volume_uuid: [0; 16],
        salt: 0,
    };
    if let Err(BatchError::HeaderCrc { actual, .. }) = decode(&batch, &identity) {
        batch[CRC..CRC + 4].copy_from_slice(&actual.to_le_bytes());
    }
    let Ok(view) = decode(&batch, &identity) else {
        return;
    };
    assert!(view.end() > view.header.position);
    for record in view.records() {
        assert!(record.record.page_count > 0 && record.lsn >= view.header.first_lsn);
        _ = record.crc(record.record.page_count as usize);
    }
});
