//! The text of logins and text requests: `key=value` pairs, each ended by a nul byte.
//!
//! Source: RFC 7143 sections 6.1 (text format) and 6.2 (negotiation).

mod read;
mod value;
mod write;

pub use read::{Pair, Pairs};
pub use value::{decode_binary, is_yes, list, number};
pub use write::{Full, TextWriter};

/// Longest key in bytes.
pub const KEY_MAX_BYTES: usize = 63;
/// Longest value in bytes, except of the keys that carry large binary values.
pub const VALUE_MAX_BYTES: usize = 255;
/// Longest value of a key that carries a large binary value, as text.
pub const LONG_VALUE_MAX_BYTES: usize = 8192;

/// Longest value that `key` may have, in bytes.
#[must_use]
pub fn value_limit(key: &str) -> usize {
    let long = ["CHAP_C", "CHAP_R", "SRP_", "KRB_", "SPKM_"];
    if long.iter().any(|prefix| key.starts_with(prefix)) {
        LONG_VALUE_MAX_BYTES
    } else {
        VALUE_MAX_BYTES
    }
}

/// What is wrong with a text. All of it is to be refused then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The last pair does not end with a nul byte.
    #[error("the pair at byte {at} is not ended by a nul byte")]
    Unterminated {
        /// Offset of the pair in bytes.
        at: usize,
    },
    /// A pair without `=`.
    #[error("the pair at byte {at} has no '='")]
    NoValue {
        /// Offset of the pair in bytes.
        at: usize,
    },
    /// A key that is empty, too long, or has a character that keys cannot have.
    #[error("the pair at byte {at} has a malformed key")]
    Key {
        /// Offset of the pair in bytes.
        at: usize,
    },
    /// A value that is too long.
    #[error("the pair at byte {at} has a value of {len_bytes} bytes, too long")]
    TooLong {
        /// Offset of the pair in bytes.
        at: usize,
        /// Length of the value.
        len_bytes: usize,
    },
    /// A value that is not UTF-8, or has a control character.
    #[error("the pair at byte {at} has a malformed value")]
    Value {
        /// Offset of the pair in bytes.
        at: usize,
    },
}
