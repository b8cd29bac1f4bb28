//! Pairs into a buffer of fixed length.

use core::fmt::{self, Write};

/// The pair does not fit; the text is as it was before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is full: send it and go on in another PDU")]
pub struct Full;

/// Writes pairs one after the other.
#[derive(Debug)]
pub struct TextWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> TextWriter<'a> {
    /// Nothing written yet. The buffer's length is the text's limit.
    pub const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Adds `key=value` and its nul byte.
    ///
    /// Errors: `Full`: nothing of the pair was added.
    pub fn pair(&mut self, key: &str, value: impl fmt::Display) -> Result<(), Full> {
        self.undoing(|text| {
            write!(text, "{key}={value}\0")?;
            Ok(())
        })
    }

    /// Adds a binary value in hexadecimal digits.
    ///
    /// Errors: `Full`: nothing of the pair was added.
    pub fn binary(&mut self, key: &str, value: &[u8]) -> Result<(), Full> {
        self.undoing(|text| {
            write!(text, "{key}=0x")?;
            value
                .iter()
                .try_for_each(|byte| write!(text, "{byte:02x}"))?;
            text.write_str("\0")
        })
    }

    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Length of what was written in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn undoing(&mut self, write: impl FnOnce(&mut Self) -> fmt::Result) -> Result<(), Full> {
        let before = self.len;
        write(self).map_err(|_| {
            self.len = before;
            Full
        })
    }
}

impl Write for TextWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let place = self.buffer.get_mut(self.len..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, TextWriter};

    #[test]
    fn pairs_end_with_a_nul_byte() {
        let mut buffer = [0xee; 64];
        let mut text = TextWriter::new(&mut buffer);
        assert!(text.is_empty());
        text.pair("MaxBurstLength", 262_144).expect("fits");
        text.binary("CHAP_C", &[0, 0xab]).expect("fits");
        assert_eq!(text.bytes(), b"MaxBurstLength=262144\0CHAP_C=0x00ab\0");
        assert_eq!(text.len(), 36);
    }

    #[test]
    fn what_does_not_fit_leaves_nothing() {
        let mut buffer = [0; 9];
        let mut text = TextWriter::new(&mut buffer);
        assert_eq!(text.pair("Key", "12345"), Err(Full));
        assert_eq!(text.binary("Key", &[1, 2]), Err(Full));
        assert!(text.is_empty());
        text.pair("Key", "1234").expect("nine bytes");
        assert_eq!(text.pair("A", ""), Err(Full));
        assert_eq!(text.bytes(), b"Key=1234\0");
    }
}
