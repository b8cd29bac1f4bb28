//! Bytes laid out by offset, as the specification's figures give them; knows no encoder.

/// A structure under construction.
pub struct SpecBytes(pub Vec<u8>);

impl SpecBytes {
    pub fn new(size: usize) -> Self {
        Self(vec![0; size])
    }

    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

/// Each returns the bytes of a value (`le` and `be` are the order), and the value for the encoder
/// under test.
pub fn byte(value: u8) -> (Vec<u8>, u8) {
    (vec![value], value)
}

pub fn le16(value: u16) -> (Vec<u8>, u16) {
    (value.to_le_bytes().to_vec(), value)
}

pub fn le32(value: u32) -> (Vec<u8>, u32) {
    (value.to_le_bytes().to_vec(), value)
}

pub fn le64(value: u64) -> (Vec<u8>, u64) {
    (value.to_le_bytes().to_vec(), value)
}

pub fn le128(value: u128) -> (Vec<u8>, u128) {
    (value.to_le_bytes().to_vec(), value)
}

pub fn be16(value: u16) -> (Vec<u8>, u16) {
    (value.to_be_bytes().to_vec(), value)
}

pub fn be24(value: u32) -> (Vec<u8>, u32) {
    (value.to_be_bytes()[1..].to_vec(), value)
}

pub fn be32(value: u32) -> (Vec<u8>, u32) {
    (value.to_be_bytes().to_vec(), value)
}

pub fn raw<const N: usize>(value: &[u8; N]) -> (Vec<u8>, [u8; N]) {
    (value.to_vec(), *value)
}

/// Text padded to `N` bytes with `pad`.
pub fn padded<const N: usize>(text: &str, pad: u8) -> [u8; N] {
    let mut field = [pad; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}

/// CRC32C bit by bit, straight from the polynomial: the check on the fast one.
pub fn crc32c_bitwise(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1 != 0;
            crc >>= 1;
            if carry {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    !crc
}
