//! Pairs out of bytes from strangers.

use super::{KEY_MAX_BYTES, TextError, value_limit};

/// One `key=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Up to 63 letters, digits, and `.-+@_`.
    pub key: &'a str,
    /// Text without control characters; may be empty, may have further `=`.
    pub value: &'a str,
}

/// The pairs of a text, in order. Ends after the first error.
///
/// Nul bytes between pairs are passed over: there are initiators that count padding into the
/// length of their text. Cost: one pass, no allocation.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Pairs<'a> {
    /// Of a whole text: data segments of several PDUs are put together before.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self) -> Option<Result<Pair<'a>, TextError>> {
        let rest = self.bytes.get(self.at..)?;
        let start = rest.iter().position(|byte| *byte != 0)?;
        let (at, rest) = (self.at + start, rest.get(start..)?);
        let Some(len) = rest.iter().position(|byte| *byte == 0) else {
            return Some(Err(TextError::Unterminated { at }));
        };
        self.at = at + len + 1;
        Some(pair(rest.get(..len)?, at))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<Pair<'a>, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.take();
        if !matches!(item, Some(Ok(_))) {
            self.at = self.bytes.len();
        }
        item
    }
}

fn pair(bytes: &[u8], at: usize) -> Result<Pair<'_>, TextError> {
    let equals = bytes.iter().position(|byte| *byte == b'=');
    let (key, value) = equals
        .and_then(|equals| Some((bytes.get(..equals)?, bytes.get(equals + 1..)?)))
        .ok_or(TextError::NoValue { at })?;
    let key = key_text(key).ok_or(TextError::Key { at })?;
    if value.len() > value_limit(key) {
        return Err(TextError::TooLong {
            at,
            len_bytes: value.len(),
        });
    }
    let value = core::str::from_utf8(value).map_err(|_| TextError::Value { at })?;
    if value.chars().any(char::is_control) {
        return Err(TextError::Value { at });
    }
    Ok(Pair { key, value })
}

/// Keys begin with a letter. RFC 7143 wants a capital one, but names in use do not all keep to it.
fn key_text(bytes: &[u8]) -> Option<&str> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+@_".contains(byte);
    let good = bytes.len() <= KEY_MAX_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(allowed);
    good.then(|| core::str::from_utf8(bytes).ok())?
}
