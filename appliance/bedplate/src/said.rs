//! Errors of a data core, as text that may leave it.

use std::fmt::Display;

/// What the error says. The engine's errors share memory of their core and cannot be sent as they
/// are; their text is complete.
pub fn said(error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
