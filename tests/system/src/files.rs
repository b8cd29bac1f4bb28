//! Files that tests damage, and proof that nothing else changed them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use wire::tcp::digest::Crc32c;

/// Length and CRC32C of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    len_bytes: u64,
    crc: u32,
}

/// Fingerprint of a file; `None` when it does not exist or is no file.
#[must_use]
pub fn fingerprint(path: &Path) -> Option<Fingerprint> {
    if !path.is_file() {
        return None;
    }
    let mut file = File::open(path).expect("the file can be opened");
    let mut crc = Crc32c::new();
    let mut len_bytes = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece).expect("the file can be read");
        if count == 0 {
            return Some(Fingerprint {
                len_bytes,
                crc: crc.value(),
            });
        }
        crc.update(&piece[..count]);
        len_bytes += count as u64;
    }
}

/// Reads `len` bytes at `offset`.
#[must_use]
pub fn read_at(path: &Path, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let file = File::open(path).expect("the file can be opened");
    file.read_exact_at(&mut bytes, offset)
        .expect("the file is long enough");
    bytes
}

/// Overwrites the bytes at `offset`.
pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("the file can be opened");
    file.write_all_at(bytes, offset)
        .expect("the file can be written");
    file.sync_all().expect("the file can be synced");
}

/// Flips one bit.
pub fn flip_bit(path: &Path, offset: u64) {
    let mut byte = read_at(path, offset, 1);
    byte[0] ^= 0x10;
    write_at(path, offset, &byte);
}

/// Offset of the first place at or after `from` where `needle` stands.
#[must_use]
pub fn find(path: &Path, needle: &[u8], from: u64) -> Option<u64> {
    let file = File::open(path).expect("the file can be opened");
    let len = file.metadata().expect("the file has a length").len();
    let mut piece = vec![0; (1 << 20) + needle.len()];
    let mut offset = from;
    while offset < len {
        let count = file
            .read_at(&mut piece, offset)
            .expect("the file can be read");
        let hit = piece[..count]
            .windows(needle.len())
            .position(|window| window == needle);
        if let Some(at) = hit {
            return Some(offset + at as u64);
        }
        offset += 1 << 20;
    }
    None
}
