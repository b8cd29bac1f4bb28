//! Text requests in full feature phase: SendTargets, and what else may be said then.
//!
//! Source: RFC 7143 sections 11.10 and 11.11 (text requests and responses), 13.3 (SendTargets),
//! 13.12 (MaxRecvDataSegmentLength), appendix C (discovery).

use std::net::SocketAddr;

use wire::iscsi::text::{Pair, Pairs, TextWriter};
use wire::iscsi::{NO_TAG, RejectReason, TargetNumbers, TextRequest, TextResponse, flags, pdu};

use super::keys::{ANSWERS, RULES};
use super::names::normalize;
use super::operational::data_segment;
use super::security::is_security_key;

/// Most text of one request, put together from its PDUs, in bytes.
const TEXT_MAX_BYTES: usize = 8 << 10;
/// Most text of the answers to ordinary keys, in bytes.
const ANSWERS_MAX_BYTES: usize = 8 << 10;

/// Which targets an initiator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetScope {
    /// Every target that it may see.
    All,
    /// The one of this name, in lower case; in a normal session, its own.
    Named(String),
}

/// A target with the addresses of its portals, and the tag of the portal group of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetEntry {
    /// TargetName.
    pub name: String,
    /// TargetAddress: address and TargetPortalGroupTag.
    pub addresses: Vec<(SocketAddr, u16)>,
}

/// What to do with a text request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextStep {
    /// Send this.
    Reply(TextReply),
    /// Call [`TextExchange::targets`] and send what it gives.
    Targets(TargetScope),
    /// Send a Reject.
    Rejected(RejectReason),
}

/// A response to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextReply {
    /// Whether the exchange ends with it.
    pub last: bool,
    /// Whether the text ends in the middle of an answer.
    pub cut: bool,
    /// The text: no longer than the initiator's MaxRecvDataSegmentLength.
    pub text: Vec<u8>,
    /// MaxRecvDataSegmentLength that the initiator declared; it counts from now on.
    pub max_send_data_bytes: Option<u32>,
}

/// The exchange of a connection; there is one at a time. Its memory is bounded by the largest
/// request and the list of targets.
#[derive(Debug)]
pub struct TextExchange {
    /// TargetName of a normal session; none in a discovery session.
    target: Option<String>,
    gathered: Vec<u8>,
    /// Text that did not fit, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
    /// Names the exchange in target transfer tags, while there is one.
    open: bool,
    wants_more: bool,
    declared: Option<u32>,
}

/// The target transfer tag of every exchange: a connection has one.
const TAG: u32 = 1;

impl TextExchange {
    /// For a connection of a session with `target`, or of a discovery session.
    #[must_use]
    pub fn new(target: Option<String>) -> Self {
        Self {
            target,
            gathered: Vec::new(),
            pending: Vec::new(),
            sent: 0,
            open: false,
            wants_more: false,
            declared: None,
        }
    }

    /// Takes a request with its data segment. `limit_bytes` is the initiator's
    /// MaxRecvDataSegmentLength.
    pub fn receive(&mut self, request: &TextRequest, text: &[u8], limit_bytes: u32) -> TextStep {
        let continues = request.flags & flags::CONTINUE != 0;
        let is_final = request.flags & pdu::FINAL != 0;
        match request.ttt.get() {
            // A request without a tag ends what was before.
            NO_TAG => self.reset(),
            TAG if self.open => {}
            _ => return TextStep::Rejected(RejectReason::INVALID_PDU_FIELD),
        }
        if continues && is_final {
            return self.rejected(RejectReason::PROTOCOL_ERROR);
        }
        if self.is_pending() {
            // The rest of an answer is asked for with a request that says nothing.
            if continues || !text.is_empty() {
                return self.rejected(RejectReason::PROTOCOL_ERROR);
            }
            return TextStep::Reply(self.piece(limit_bytes));
        }
        if self.gathered.len() + text.len() > TEXT_MAX_BYTES {
            return self.rejected(RejectReason::PROTOCOL_ERROR);
        }
        self.gathered.extend_from_slice(text);
        self.wants_more = !is_final;
        if continues {
            return TextStep::Reply(self.piece(limit_bytes));
        }
        self.take(limit_bytes)
    }

    /// Answers SendTargets, after [`TextStep::Targets`].
    pub fn targets(&mut self, entries: &[TargetEntry], limit_bytes: u32) -> TextReply {
        for entry in entries {
            self.say("TargetName", &entry.name);
            for (address, tag) in &entry.addresses {
                self.say("TargetAddress", &format!("{address},{tag}"));
            }
        }
        self.piece(limit_bytes)
    }

    /// Takes a request that is here in full.
    fn take(&mut self, limit_bytes: u32) -> TextStep {
        let gathered = std::mem::take(&mut self.gathered);
        let mut scope = None;
        for pair in Pairs::new(&gathered) {
            let Ok(pair) = pair else {
                return self.rejected(RejectReason::PROTOCOL_ERROR);
            };
            if pair.key != "SendTargets" {
                if self.other(&pair).is_err() {
                    return self.rejected(RejectReason::PROTOCOL_ERROR);
                }
                continue;
            }
            if scope.is_some() {
                return self.rejected(RejectReason::PROTOCOL_ERROR);
            }
            scope = Some(self.scope(pair.value));
        }
        match scope {
            Some(Some(scope)) => return TextStep::Targets(scope),
            Some(None) => self.say("SendTargets", "Reject"),
            None => {}
        }
        TextStep::Reply(self.piece(limit_bytes))
    }

    /// All is for discovery sessions, nothing at all for normal ones: they see their own target.
    fn scope(&self, value: &str) -> Option<TargetScope> {
        match (&self.target, value) {
            (None, "All") => Some(TargetScope::All),
            (None, "") | (Some(_), "All") => None,
            (Some(target), "") => Some(TargetScope::Named(target.clone())),
            (own, name) => {
                let name = normalize(name)?;
                let visible = own.as_ref().is_none_or(|own| *own == name);
                visible.then_some(TargetScope::Named(name))
            }
        }
    }

    /// A key beside SendTargets. Nothing but lengths and aliases may be said in this phase.
    fn other(&mut self, pair: &Pair<'_>) -> Result<(), ()> {
        let known = is_security_key(pair.key) || RULES.iter().any(|rule| rule.name == pair.key);
        match pair.key {
            _ if ANSWERS.contains(&pair.value) => {}
            "MaxRecvDataSegmentLength" => {
                let bytes = data_segment(pair.value).ok_or(())?;
                if self.declared.replace(bytes).is_some() {
                    return Err(());
                }
            }
            "InitiatorAlias" => {}
            _ if known => self.say(pair.key, "Reject"),
            _ => self.say(pair.key, "NotUnderstood"),
        }
        // Only a peer that sends nothing but such keys gets as far.
        if self.pending.len() > ANSWERS_MAX_BYTES {
            return Err(());
        }
        Ok(())
    }

    fn say(&mut self, key: &str, value: &str) {
        let start = self.pending.len();
        // "=", and the nul byte at the end.
        self.pending.resize(start + key.len() + value.len() + 2, 0);
        let written = self
            .pending
            .get_mut(start..)
            .is_some_and(|place| TextWriter::new(place).pair(key, value).is_ok());
        debug_assert!(written, "the place was made for it");
    }

    fn is_pending(&self) -> bool {
        self.sent < self.pending.len()
    }

    /// The next piece of the answer.
    fn piece(&mut self, limit_bytes: u32) -> TextReply {
        let end = self.pending.len().min(self.sent + limit_bytes as usize);
        let text = self.pending.get(self.sent..end).unwrap_or_default();
        let text = text.to_vec();
        self.sent = end;
        let cut = self.is_pending();
        if !cut {
            (self.pending, self.sent) = (Vec::new(), 0);
        }
        let last = !cut && !self.wants_more;
        self.open = !last;
        TextReply {
            last,
            cut,
            text,
            max_send_data_bytes: self.declared.take(),
        }
    }

    fn rejected(&mut self, reason: RejectReason) -> TextStep {
        self.reset();
        TextStep::Rejected(reason)
    }

    fn reset(&mut self) {
        self.gathered = Vec::new();
        (self.pending, self.sent) = (Vec::new(), 0);
        (self.open, self.wants_more, self.declared) = (false, false, None);
    }
}

impl TextReply {
    /// The header for it.
    #[must_use]
    pub fn header(&self, request: &TextRequest, numbers: TargetNumbers) -> TextResponse {
        let (itt, lun, len) = (request.itt.get(), request.lun, self.text.len());
        if self.last {
            TextResponse::last(itt, lun, len, numbers)
        } else {
            TextResponse::more(itt, TAG, lun, len, self.cut, numbers)
        }
    }
}
