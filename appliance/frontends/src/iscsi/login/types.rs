//! What goes into a login and what comes out of it.

use std::sync::Arc;

use wire::iscsi::{DEFAULT_MAX_DATA_BYTES, Digests, LoginResponse};

use super::chap::ChapSecrets;

/// Where challenges come from: `reactor::random_bytes`.
pub type RandomSource = fn(&mut [u8]);

/// Whether a digest is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestPolicy {
    /// Never.
    Off,
    /// When the initiator prefers it.
    #[default]
    Initiator,
    /// Always: who cannot is refused.
    Required,
}

/// The target's side of the negotiation. Lengths are in bytes, times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// HeaderDigest.
    pub header_digest: DigestPolicy,
    /// DataDigest.
    pub data_digest: DigestPolicy,
    /// MaxConnections: 1 to 65,535; the smaller one counts.
    pub max_connections: u16,
    /// InitialR2T: Yes when either side says so.
    pub initial_r2t: bool,
    /// ImmediateData: Yes when both sides say so.
    pub immediate_data: bool,
    /// MaxRecvDataSegmentLength that this target declares: 512 to 2^24 - 1.
    pub max_recv_data_bytes: u32,
    /// MaxBurstLength: 512 to 2^24 - 1; the smaller one counts.
    pub max_burst_bytes: u32,
    /// FirstBurstLength: 512 to MaxBurstLength; the smaller one counts.
    pub first_burst_bytes: u32,
    /// DefaultTime2Wait: 0 to 3600; the larger one counts.
    pub time2wait_s: u16,
    /// DefaultTime2Retain: 0 to 3600; the smaller one counts.
    pub time2retain_s: u16,
    /// MaxOutstandingR2T: 1 to 65,535; the smaller one counts.
    pub max_outstanding_r2t: u16,
    /// iSCSIProtocolLevel: 0 to 31; the smaller one counts.
    pub protocol_level: u8,
    /// Commands that the session may have open at first: MaxCmdSN of login responses.
    pub command_window: u32,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            header_digest: DigestPolicy::Initiator,
            data_digest: DigestPolicy::Initiator,
            max_connections: 8,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_bytes: 256 << 10,
            max_burst_bytes: 1 << 20,
            first_burst_bytes: 256 << 10,
            time2wait_s: 2,
            time2retain_s: 20,
            max_outstanding_r2t: 8,
            protocol_level: 1,
            command_window: 128,
        }
    }
}

/// Who asks for what, before anything was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// InitiatorName, in lower case.
    pub initiator: String,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName, in lower case. None only in a discovery session.
    pub target: Option<String>,
    /// SessionType=Discovery.
    pub discovery: bool,
    /// The initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// Session to join; 0 asks for a new one.
    pub tsih: u16,
    /// The connection within its session.
    pub cid: u16,
}

/// On which terms a login goes on.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Tag of the portal group that the connection came in by.
    pub portal_group_tag: u16,
    /// TargetAlias.
    pub target_alias: Option<String>,
    /// With secrets, the initiator has to prove who it is. Without, nobody is asked.
    pub chap: Option<Arc<ChapSecrets>>,
    /// What was negotiated for the session that is joined (TSIH not 0).
    pub session: Option<Negotiated>,
}

/// What a login came to. Lengths are in bytes, times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Who and what.
    pub named: Named,
    /// CHAP name of the initiator, when it had to prove who it is.
    pub user: Option<String>,
    /// Digests of this connection.
    pub digests: Digests,
    /// Most data in a PDU to the initiator.
    pub max_send_data_bytes: u32,
    /// Most data in a PDU from the initiator.
    pub max_recv_data_bytes: u32,
    /// MaxConnections of the session.
    pub max_connections: u16,
    /// Whether even the first data of a write needs an R2T.
    pub initial_r2t: bool,
    /// Whether data may come with a command.
    pub immediate_data: bool,
    /// Most data of one sequence.
    pub max_burst_bytes: u32,
    /// Most data that comes without an R2T, immediate data counted.
    pub first_burst_bytes: u32,
    /// DefaultTime2Wait.
    pub time2wait_s: u16,
    /// DefaultTime2Retain.
    pub time2retain_s: u16,
    /// R2Ts that may be open for one command.
    pub max_outstanding_r2t: u16,
    /// Data PDUs of a sequence come in order.
    pub data_pdu_in_order: bool,
    /// Sequences of a command come in order.
    pub data_sequence_in_order: bool,
    /// iSCSIProtocolLevel.
    pub protocol_level: u8,
    /// CmdSN of the last login request: of the first command that is not immediate.
    pub cmd_sn: u32,
    /// StatSN of the last login response; the next one follows it.
    pub stat_sn: u32,
}

impl Negotiated {
    /// Defaults of RFC 7143 section 13, for `named`.
    #[must_use]
    pub fn defaults(named: Named) -> Self {
        Self {
            named,
            user: None,
            digests: Digests::default(),
            max_send_data_bytes: DEFAULT_MAX_DATA_BYTES,
            max_recv_data_bytes: DEFAULT_MAX_DATA_BYTES,
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_burst_bytes: 262_144,
            first_burst_bytes: 65_536,
            time2wait_s: 2,
            time2retain_s: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            protocol_level: 1,
            cmd_sn: 0,
            stat_sn: 0,
        }
    }
}

/// A response to send: header and data segment (without padding).
///
/// StatSN, ExpCmdSN and MaxCmdSN are filled in for a session of one connection; who joins a session
/// sets its ExpCmdSN and MaxCmdSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The header.
    pub header: LoginResponse,
    /// The text: at most 8192 bytes.
    pub text: Vec<u8>,
}

/// What to do next in a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this and receive the next request.
    Reply(Reply),
    /// Call [`super::Login::proceed`], [`super::Login::refuse`] or [`super::Login::redirect`].
    Named(Named),
    /// Make the session, then call [`super::Login::finish`], or [`super::Login::refuse`].
    Finished(Box<Negotiated>),
    /// Send this and close the connection.
    Refused(Reply),
}
