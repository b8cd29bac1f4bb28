//! Text inside fixed fields: space-padded ASCII and nul-terminated qualified names.
//!
//! Source: base 2.0 section 1.4.2 (ASCII strings are padded with spaces) and 4.5 (NQN).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, NqnProblem};

/// Longest qualified name in bytes, the terminating nul not counted.
pub const NQN_MAX_BYTES: usize = 223;

/// The well-known name of the discovery subsystem.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// An ASCII field of `N` bytes, padded with spaces on the right.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Ascii<const N: usize>(pub [u8; N]);

impl<const N: usize> Ascii<N> {
    /// Pads `text` with spaces; what does not fit is cut, what is not printable becomes `?`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut field = [b' '; N];
        for (to, from) in field.iter_mut().zip(text.bytes()) {
            *to = if (0x20..=0x7e).contains(&from) {
                from
            } else {
                b'?'
            };
        }
        Self(field)
    }

    /// The text without its padding, up to the first byte that is not printable ASCII.
    ///
    /// Nul padding is accepted too: several real devices and the discovery log use it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let printable = self
            .0
            .iter()
            .take_while(|byte| (0x20..=0x7e).contains(*byte))
            .count();
        let text = self.0.get(..printable).unwrap_or_default();
        core::str::from_utf8(text)
            .unwrap_or_default()
            .trim_end_matches(' ')
    }
}

impl<const N: usize> fmt::Debug for Ascii<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl<const N: usize> Default for Ascii<N> {
    fn default() -> Self {
        Self([b' '; N])
    }
}

/// A 256-byte field that holds a nul-terminated qualified name.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct NqnField(pub [u8; 256]);

impl NqnField {
    /// Encodes a name after checking it.
    ///
    /// Errors: `Nqn` when `name` is not a qualified name; `field` names the place in messages.
    pub fn new(name: &str, field: &'static str) -> Result<Self, Error> {
        check_nqn(name).map_err(|problem| Error::Nqn { field, problem })?;
        let mut bytes = [0u8; 256];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Ok(Self(bytes))
    }

    /// The checked name.
    ///
    /// Errors: `Nqn` when the field holds none: no terminator within 224 bytes, empty, not UTF-8,
    /// without the `nqn.` prefix, or with control characters. Bytes after the nul are ignored.
    pub fn parse(&self, field: &'static str) -> Result<&str, Error> {
        self.text()
            .and_then(|name| check_nqn(name).map(|()| name))
            .map_err(|problem| Error::Nqn { field, problem })
    }

    fn text(&self) -> Result<&str, NqnProblem> {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(NqnProblem::TooLong)?;
        let name = self.0.get(..end).unwrap_or_default();
        core::str::from_utf8(name).map_err(|_| NqnProblem::NotUtf8)
    }
}

impl fmt::Debug for NqnField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Ok(name) => write!(f, "{name:?}"),
            Err(problem) => write!(f, "<{problem}>"),
        }
    }
}

impl Default for NqnField {
    fn default() -> Self {
        Self([0; 256])
    }
}

/// Checks the form of a qualified name: length, `nqn.` prefix, no control characters.
///
/// The date and domain after the prefix are not judged: names are compared, never resolved.
pub fn check_nqn(name: &str) -> Result<(), NqnProblem> {
    if name.is_empty() {
        return Err(NqnProblem::Empty);
    }
    if name.len() > NQN_MAX_BYTES {
        return Err(NqnProblem::TooLong);
    }
    if !name.starts_with("nqn.") {
        return Err(NqnProblem::Prefix);
    }
    if name.chars().any(char::is_control) {
        return Err(NqnProblem::Control);
    }
    Ok(())
}
