//! The operational keys as a table: what values they take, and how two values become one.
//!
//! Source: RFC 7143 section 13, RFC 7144 section 7.1.1 (iSCSIProtocolLevel). The columns are those
//! of its paragraphs: result function, range, default, scope, and when a key is irrelevant.

use wire::iscsi::text::{is_yes, list, number};

use super::types::{DigestPolicy, Negotiated, Offer};

/// Values that answer a key and offer nothing.
pub(super) const ANSWERS: [&str; 3] = ["NotUnderstood", "Irrelevant", "Reject"];

/// How a value is chosen out of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// The first in the initiator's list that this target can; 1 is CRC32C, 0 is None.
    Digest,
    /// Yes when either says Yes.
    Or,
    /// Yes when both say Yes.
    And,
    /// The smaller one.
    Minimum,
    /// The larger one.
    Maximum,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub key: Key,
    pub name: &'static str,
    pub function: Function,
    /// Lowest and highest value of a number.
    pub range: (u32, u32),
    /// Of the session, so only the leading connection negotiates it; else of the connection.
    pub leading_only: bool,
    /// Means nothing in a discovery session.
    pub no_discovery: bool,
    /// Worth an offer of this target where the default does not do. Small initiators do not answer
    /// offers, so times are left as they are: they matter only where sessions are recovered.
    pub is_offered: bool,
}

/// What the rows are indexed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2t,
    ImmediateData,
    MaxBurst,
    FirstBurst,
    Time2Wait,
    Time2Retain,
    MaxOutstandingR2t,
    DataPduInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    ProtocolLevel,
}

pub(super) const RULES: [Rule; 14] = {
    use Function::{And, Digest, Maximum, Minimum, Or};
    const BOOLEAN: (u32, u32) = (0, 1);
    const LENGTH: (u32, u32) = (512, (1 << 24) - 1);
    const fn rule(key: Key, name: &'static str, function: Function, range: (u32, u32)) -> Rule {
        Rule {
            key,
            name,
            function,
            range,
            leading_only: true,
            no_discovery: true,
            is_offered: true,
        }
    }
    const fn everywhere(rule: Rule) -> Rule {
        Rule {
            no_discovery: false,
            is_offered: false,
            ..rule
        }
    }
    const fn of_connection(rule: Rule) -> Rule {
        Rule {
            leading_only: false,
            no_discovery: false,
            ..rule
        }
    }
    [
        of_connection(rule(Key::HeaderDigest, "HeaderDigest", Digest, BOOLEAN)),
        of_connection(rule(Key::DataDigest, "DataDigest", Digest, BOOLEAN)),
        rule(Key::MaxConnections, "MaxConnections", Minimum, (1, 65_535)),
        rule(Key::InitialR2t, "InitialR2T", Or, BOOLEAN),
        rule(Key::ImmediateData, "ImmediateData", And, BOOLEAN),
        rule(Key::MaxBurst, "MaxBurstLength", Minimum, LENGTH),
        rule(Key::FirstBurst, "FirstBurstLength", Minimum, LENGTH),
        everywhere(rule(Key::Time2Wait, "DefaultTime2Wait", Maximum, (0, 3600))),
        everywhere(rule(
            Key::Time2Retain,
            "DefaultTime2Retain",
            Minimum,
            (0, 3600),
        )),
        rule(
            Key::MaxOutstandingR2t,
            "MaxOutstandingR2T",
            Minimum,
            (1, 65_535),
        ),
        rule(Key::DataPduInOrder, "DataPDUInOrder", Or, BOOLEAN),
        rule(Key::DataSequenceInOrder, "DataSequenceInOrder", Or, BOOLEAN),
        everywhere(rule(
            Key::ErrorRecoveryLevel,
            "ErrorRecoveryLevel",
            Minimum,
            (0, 2),
        )),
        rule(Key::ProtocolLevel, "iSCSIProtocolLevel", Minimum, (0, 31)),
    ]
};

impl Rule {
    /// Reads the initiator's value, and gives the one that both have then. `None` for a value that
    /// the key cannot have, and when there is none in common.
    pub fn choose(&self, value: &str, offer: &Offer) -> Option<u32> {
        if self.function == Function::Digest {
            return digest(value, self.policy(offer));
        }
        Some(self.combine(self.parse(value)?, self.ours(offer)))
    }

    fn parse(&self, value: &str) -> Option<u32> {
        if matches!(self.function, Function::Or | Function::And) {
            return is_yes(value).map(u32::from);
        }
        let value = u32::try_from(number(value)?).ok()?;
        let (lowest, highest) = self.range;
        (lowest..=highest).contains(&value).then_some(value)
    }

    fn combine(&self, theirs: u32, ours: u32) -> u32 {
        match self.function {
            Function::Digest | Function::Or | Function::Maximum => theirs.max(ours),
            Function::And | Function::Minimum => theirs.min(ours),
        }
    }

    /// This target's value.
    pub fn ours(&self, offer: &Offer) -> u32 {
        match self.key {
            Key::HeaderDigest | Key::DataDigest => {
                u32::from(self.policy(offer) == DigestPolicy::Required)
            }
            Key::MaxConnections => offer.max_connections.into(),
            Key::InitialR2t => offer.initial_r2t.into(),
            Key::ImmediateData => offer.immediate_data.into(),
            Key::MaxBurst => offer.max_burst_bytes,
            Key::FirstBurst => offer.first_burst_bytes.min(offer.max_burst_bytes),
            Key::Time2Wait => offer.time2wait_s.into(),
            Key::Time2Retain => offer.time2retain_s.into(),
            Key::MaxOutstandingR2t => offer.max_outstanding_r2t.into(),
            // Data comes in order: buffers need not be searched.
            Key::DataPduInOrder | Key::DataSequenceInOrder => 1,
            // Lost PDUs are a matter of the session's recovery.
            Key::ErrorRecoveryLevel => 0,
            Key::ProtocolLevel => offer.protocol_level.into(),
        }
    }

    fn policy(&self, offer: &Offer) -> DigestPolicy {
        match self.key {
            Key::HeaderDigest => offer.header_digest,
            _ => offer.data_digest,
        }
    }

    /// Whether this target cannot live with `value`, so that it has to offer its own.
    pub fn has_to_change(&self, value: u32, offer: &Offer) -> bool {
        self.combine(value, self.ours(offer)) != value
    }

    /// A value as text.
    pub fn text(&self, value: u32) -> String {
        match (self.function, value) {
            (Function::Digest, 0) => "None".to_owned(),
            (Function::Digest, _) => "CRC32C".to_owned(),
            (Function::Or | Function::And, 0) => "No".to_owned(),
            (Function::Or | Function::And, _) => "Yes".to_owned(),
            (_, number) => number.to_string(),
        }
    }

    /// The value that `negotiated` has.
    pub fn get(&self, negotiated: &Negotiated) -> u32 {
        match self.key {
            Key::HeaderDigest => negotiated.digests.header.into(),
            Key::DataDigest => negotiated.digests.data.into(),
            Key::MaxConnections => negotiated.max_connections.into(),
            Key::InitialR2t => negotiated.initial_r2t.into(),
            Key::ImmediateData => negotiated.immediate_data.into(),
            Key::MaxBurst => negotiated.max_burst_bytes,
            Key::FirstBurst => negotiated.first_burst_bytes,
            Key::Time2Wait => negotiated.time2wait_s.into(),
            Key::Time2Retain => negotiated.time2retain_s.into(),
            Key::MaxOutstandingR2t => negotiated.max_outstanding_r2t.into(),
            Key::DataPduInOrder => negotiated.data_pdu_in_order.into(),
            Key::DataSequenceInOrder => negotiated.data_sequence_in_order.into(),
            Key::ErrorRecoveryLevel => 0,
            Key::ProtocolLevel => negotiated.protocol_level.into(),
        }
    }

    /// Puts a value that is in range into `negotiated`.
    pub fn set(&self, negotiated: &mut Negotiated, value: u32) {
        let (yes, short) = (value != 0, u16::try_from(value).unwrap_or(u16::MAX));
        match self.key {
            Key::HeaderDigest => negotiated.digests.header = yes,
            Key::DataDigest => negotiated.digests.data = yes,
            Key::MaxConnections => negotiated.max_connections = short,
            Key::InitialR2t => negotiated.initial_r2t = yes,
            Key::ImmediateData => negotiated.immediate_data = yes,
            Key::MaxBurst => negotiated.max_burst_bytes = value,
            Key::FirstBurst => negotiated.first_burst_bytes = value,
            Key::Time2Wait => negotiated.time2wait_s = short,
            Key::Time2Retain => negotiated.time2retain_s = short,
            Key::MaxOutstandingR2t => negotiated.max_outstanding_r2t = short,
            Key::DataPduInOrder => negotiated.data_pdu_in_order = yes,
            Key::DataSequenceInOrder => negotiated.data_sequence_in_order = yes,
            Key::ErrorRecoveryLevel => {}
            Key::ProtocolLevel => negotiated.protocol_level = value as u8,
        }
    }
}

fn digest(value: &str, policy: DigestPolicy) -> Option<u32> {
    list(value).find_map(|one| match (one, policy) {
        ("CRC32C", DigestPolicy::Initiator | DigestPolicy::Required) => Some(1),
        ("None", DigestPolicy::Initiator | DigestPolicy::Off) => Some(0),
        _ => None,
    })
}
