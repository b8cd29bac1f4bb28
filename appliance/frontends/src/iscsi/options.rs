//! Options of the iSCSI target, with their limits; checked once, when the target is made.

use std::sync::Arc;
use std::time::Duration;

use super::directory::Directory;
use super::login::{ChapSecrets, DigestPolicy, Offer};
use crate::error::FrontendError;
use crate::options::within;

/// Start of the name of every target; the volume's name follows.
pub const IQN_PREFIX: &str = "iqn.2026-11.io.bedplate:";

/// The name under which initiators find the volume `name`.
pub fn volume_iqn(name: &str) -> String {
    // Names are compared in lower case.
    format!("{IQN_PREFIX}{}", name.to_lowercase())
}

/// Tasks that immediate commands may have beside those of the command window.
pub(crate) const IMMEDIATE_TASKS: u16 = 16;

/// How initiators prove who they are.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// By CHAP, with these secrets; discovery too.
    Chap(Arc<ChapSecrets>),
}

/// How the target behaves. Everything an initiator can make it hold is bounded by these.
#[derive(Clone)]
pub struct Options {
    /// Connections at the same time of all targets that share the directory, logins included; more
    /// are closed at once.
    pub max_connections: usize,
    /// Sessions at the same time of all targets that share the directory.
    pub max_sessions: usize,
    /// Logins in progress on this core; a newer one closes the oldest.
    pub max_unconnected: usize,
    /// Connections of one session (MaxConnections), 1 to 64.
    pub max_session_connections: u16,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// How long a peer may take nothing while output waits, or owe data that it was asked for.
    pub stall_timeout: Duration,
    /// After so much silence the initiator is asked for a sign of life.
    pub nop_interval: Duration,
    /// How long it may take to give it.
    pub nop_timeout: Duration,
    /// How long the socket stays open for last words, and for a logout at shutdown.
    pub linger: Duration,
    /// Agree to header digests when the initiator offers them.
    pub header_digest: bool,
    /// Agree to data digests when the initiator offers them.
    pub data_digest: bool,
    /// How initiators prove who they are.
    pub auth: Auth,
    /// Data of one PDU that comes in (MaxRecvDataSegmentLength), 512 bytes to 1 MiB.
    pub max_recv_data_segment_bytes: u32,
    /// Data of one sequence of PDUs (MaxBurstLength), up to 1 MiB.
    pub max_burst_bytes: u32,
    /// Data that comes without being asked for (FirstBurstLength), at most `max_burst_bytes`.
    pub first_burst_bytes: u32,
    /// Requests for data of one command that are open at once (MaxOutstandingR2T), 1 to 8.
    pub max_outstanding_r2t: u16,
    /// Ask for all data but immediate data (InitialR2T).
    pub initial_r2t: bool,
    /// Let data come with its command (ImmediateData).
    pub immediate_data: bool,
    /// Commands in flight of one session: the window of CmdSN, 2 to 512.
    pub queue_depth: u16,
    /// Payload bytes that the commands of one session hold at the same time, beside
    /// `queue_depth` first bursts.
    pub session_data_bytes: usize,
    /// Shared by the targets of all cores: which volume lives where, the portals, and how many
    /// connections and sessions there are.
    pub directory: Directory,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_sessions: 512,
            max_unconnected: 64,
            max_session_connections: 8,
            login_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            nop_interval: Duration::from_secs(30),
            nop_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            header_digest: true,
            data_digest: true,
            auth: Auth::None,
            max_recv_data_segment_bytes: 256 << 10,
            max_burst_bytes: 1 << 20,
            first_burst_bytes: 64 << 10,
            max_outstanding_r2t: 8,
            initial_r2t: false,
            immediate_data: true,
            queue_depth: 128,
            session_data_bytes: 16 << 20,
            directory: Directory::new(),
        }
    }
}

impl Options {
    /// Checks every limit. Errors name the option and what it may be.
    pub fn check(&self) -> Result<(), FrontendError> {
        let burst = u64::from(self.max_burst_bytes);
        let rows: [(&'static str, u64, u64, u64); 10] = [
            ("max_connections", self.max_connections as u64, 1, 65_536),
            ("max_sessions", self.max_sessions as u64, 1, 65_535),
            ("max_unconnected", self.max_unconnected as u64, 1, 65_536),
            (
                "max_session_connections",
                u64::from(self.max_session_connections),
                1,
                64,
            ),
            (
                "max_recv_data_segment_bytes",
                u64::from(self.max_recv_data_segment_bytes),
                512,
                1 << 20,
            ),
            ("max_burst_bytes", burst, 512, 1 << 20),
            (
                "first_burst_bytes",
                u64::from(self.first_burst_bytes),
                512,
                burst,
            ),
            (
                "max_outstanding_r2t",
                u64::from(self.max_outstanding_r2t),
                1,
                8,
            ),
            ("queue_depth", u64::from(self.queue_depth), 2, 512),
            (
                "session_data_bytes",
                self.session_data_bytes as u64,
                1 << 20,
                1 << 40,
            ),
        ];
        rows.into_iter()
            .try_for_each(|(option, value, lowest, highest)| within(option, value, lowest, highest))
    }

    /// What a login may settle on.
    pub(super) fn offer(&self) -> Offer {
        let digest = |allowed| match allowed {
            true => DigestPolicy::Initiator,
            false => DigestPolicy::Off,
        };
        Offer {
            header_digest: digest(self.header_digest),
            data_digest: digest(self.data_digest),
            max_connections: self.max_session_connections,
            initial_r2t: self.initial_r2t,
            immediate_data: self.immediate_data,
            max_recv_data_bytes: self.max_recv_data_segment_bytes,
            max_burst_bytes: self.max_burst_bytes,
            first_burst_bytes: self.first_burst_bytes,
            max_outstanding_r2t: self.max_outstanding_r2t,
            command_window: u32::from(self.queue_depth),
            time2retain_s: 0,
            ..Offer::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_options_are_good() {
        assert!(Options::default().check().is_ok());
    }

    #[test]
    fn options_outside_their_limits_are_named() {
        type Change = fn(&mut Options);
        let table: [(&str, Change); 6] = [
            ("max_connections", |options| options.max_connections = 0),
            ("max_session_connections", |options| {
                options.max_session_connections = 65
            }),
            ("max_burst_bytes", |options| {
                options.max_burst_bytes = 2 << 20
            }),
            ("first_burst_bytes", |options| {
                options.first_burst_bytes = 2 << 20
            }),
            ("max_outstanding_r2t", |options| {
                options.max_outstanding_r2t = 9
            }),
            ("queue_depth", |options| options.queue_depth = 1),
        ];
        for (name, change) in table {
            let mut options = Options::default();
            change(&mut options);
            let message = options.check().expect_err(name).to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }
}
