//! The text of a response.

use std::fmt::Display;

use wire::iscsi::text::{Full, TextWriter};
use wire::iscsi::{DEFAULT_MAX_DATA_BYTES, LoginStatus};

/// The text of a response: at most what every initiator takes during a login.
pub(super) struct Text {
    bytes: Vec<u8>,
}

impl Text {
    pub fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    pub fn pair(&mut self, key: &str, value: impl Display) -> Result<(), LoginStatus> {
        self.write(|writer| writer.pair(key, value))
    }

    pub fn binary(&mut self, key: &str, value: &[u8]) -> Result<(), LoginStatus> {
        self.write(|writer| writer.binary(key, value))
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Only a peer that sends nothing but unknown keys gets as far as the limit.
    fn write(
        &mut self,
        write: impl FnOnce(&mut TextWriter<'_>) -> Result<(), Full>,
    ) -> Result<(), LoginStatus> {
        let start = self.bytes.len();
        self.bytes.resize(DEFAULT_MAX_DATA_BYTES as usize, 0);
        let mut writer = TextWriter::new(self.bytes.get_mut(start..).unwrap_or_default());
        let written = write(&mut writer);
        let len = writer.len();
        self.bytes.truncate(start + len);
        written.map_err(|Full| LoginStatus::INITIATOR_ERROR)
    }
}
