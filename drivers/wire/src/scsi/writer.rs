//! Builds parameter data for hosts: fields in order, lengths patched in at the end.

/// Writes into a buffer and counts what did not fit. The host sees a prefix either way: SCSI cuts
/// parameter data at the allocation length.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the beginning of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written so far, those that did not fit included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are in the buffer.
    #[must_use]
    pub fn written(&self) -> usize {
        self.len.min(self.out.len())
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let start = self.written();
        let fits = bytes.len().min(self.out.len() - start);
        self.out[start..start + fits].copy_from_slice(&bytes[..fits]);
        self.len += bytes.len();
        self
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends zeros.
    pub fn zeros(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.u8(0);
        }
        self
    }

    /// Appends text in a field of `width` bytes, left-aligned, padded with spaces, cut when longer.
    pub fn ascii(&mut self, text: &[u8], width: usize) -> &mut Self {
        for index in 0..width {
            let byte = text.get(index).copied().unwrap_or(b' ');
            self.u8(if (0x20..0x7f).contains(&byte) {
                byte
            } else {
                b' '
            });
        }
        self
    }

    /// Overwrites bytes written before; those that did not fit are left out.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            if let Some(slot) = self.out.get_mut(at + index) {
                *slot = *byte;
            }
        }
    }

    /// Puts the count of bytes after a 2-byte length field at `at` into it.
    pub fn patch_len16(&mut self, at: usize) {
        let len = self.len.saturating_sub(at + 2);
        self.patch(at, &u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    }

    /// Puts the count of bytes after a 4-byte length field at `at` into it.
    pub fn patch_len32(&mut self, at: usize) {
        let len = self.len.saturating_sub(at + 4);
        self.patch(at, &u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    }
}
