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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use zerocopy::big_endian::U32;

    use super::*;

    const LIMIT: u32 = 8192;

    fn request(flag_bits: u8, ttt: u32) -> TextRequest {
        TextRequest {
            flags: flag_bits,
            ttt: U32::new(ttt),
            ..TextRequest::zeroed()
        }
    }

    fn ask(exchange: &mut TextExchange, text: &[u8]) -> TextStep {
        exchange.receive(&request(0x80, NO_TAG), text, LIMIT)
    }

    fn discovery() -> TextExchange {
        TextExchange::new(None)
    }

    fn normal() -> TextExchange {
        TextExchange::new(Some("iqn.a".to_owned()))
    }

    fn entry(name: &str) -> TargetEntry {
        TargetEntry {
            name: name.to_owned(),
            addresses: vec![
                (([127, 0, 0, 1], 3260).into(), 1),
                (([0, 0, 0, 0, 0, 0, 0, 1], 3261).into(), 2),
            ],
        }
    }

    fn said(step: TextStep) -> String {
        let TextStep::Reply(reply) = step else {
            panic!("{step:?}");
        };
        assert!(reply.last && !reply.cut);
        String::from_utf8(reply.text).expect("text")
    }

    #[test]
    fn the_scope_depends_on_the_session() {
        let named = |name: &str| TextStep::Targets(TargetScope::Named(name.to_owned()));
        let all = b"SendTargets=All\0";
        assert_eq!(
            ask(&mut discovery(), all),
            TextStep::Targets(TargetScope::All)
        );
        assert_eq!(
            ask(&mut discovery(), b"SendTargets=iqn.B\0"),
            named("iqn.b")
        );
        assert_eq!(ask(&mut normal(), b"SendTargets=\0"), named("iqn.a"));
        assert_eq!(ask(&mut normal(), b"SendTargets=iqn.A\0"), named("iqn.a"));
        let refused: [(TextExchange, &[u8]); 4] = [
            (normal(), all),
            (normal(), b"SendTargets=iqn.b\0"),
            (discovery(), b"SendTargets=\0"),
            (discovery(), b"SendTargets=a b\0"),
        ];
        for (mut exchange, text) in refused {
            assert_eq!(said(ask(&mut exchange, text)), "SendTargets=Reject\0");
        }
    }

    #[test]
    fn targets_are_listed_with_their_portals() {
        let mut exchange = discovery();
        ask(&mut exchange, b"SendTargets=All\0");
        let reply = exchange.targets(&[entry("iqn.a"), entry("iqn.b")], LIMIT);
        let portals = "TargetAddress=127.0.0.1:3260,1\0TargetAddress=[::1]:3261,2\0";
        let expected = format!("TargetName=iqn.a\0{portals}TargetName=iqn.b\0{portals}");
        assert_eq!(said(TextStep::Reply(reply)), expected);
        ask(&mut exchange, b"SendTargets=All\0");
        let nothing = exchange.targets(&[], LIMIT);
        assert_eq!(said(TextStep::Reply(nothing)), "");
    }

    #[test]
    fn a_long_list_goes_on_over_several_responses() {
        let entries: Vec<TargetEntry> = (0..100).map(|n| entry(&format!("iqn.{n}"))).collect();
        let mut exchange = discovery();
        let first = request(0x80, NO_TAG);
        exchange.receive(&first, b"SendTargets=All\0", 512);
        let mut reply = exchange.targets(&entries, 512);
        let mut all = Vec::new();
        loop {
            assert!(reply.text.len() <= 512);
            let header = reply.header(&first, TargetNumbers::default());
            all.extend_from_slice(&reply.text);
            if reply.last {
                assert_eq!((header.flags, header.ttt.get()), (0x80, NO_TAG));
                break;
            }
            assert_eq!((header.flags, header.ttt.get()), (0x40, TAG));
            let TextStep::Reply(next) = exchange.receive(&request(0x80, TAG), b"", 512) else {
                panic!("refused");
            };
            reply = next;
        }
        let names = Pairs::new(&all)
            .filter(|pair| pair.as_ref().is_ok_and(|pair| pair.key == "TargetName"));
        assert_eq!(names.count(), 100);
        let late = exchange.receive(&request(0x80, TAG), b"", 512);
        assert_eq!(late, TextStep::Rejected(RejectReason::INVALID_PDU_FIELD));
    }

    #[test]
    fn a_request_can_come_in_pieces() {
        let mut exchange = discovery();
        let TextStep::Reply(reply) = exchange.receive(&request(0x40, NO_TAG), b"SendTar", LIMIT)
        else {
            panic!("refused");
        };
        assert!(!reply.last && !reply.cut && reply.text.is_empty());
        let step = exchange.receive(&request(0x80, TAG), b"gets=All\0", LIMIT);
        assert_eq!(step, TextStep::Targets(TargetScope::All));
        exchange.receive(&request(0x40, NO_TAG), b"SendTar", LIMIT);
        let step = ask(&mut exchange, b"SendTargets=All\0");
        assert_eq!(
            step,
            TextStep::Targets(TargetScope::All),
            "a new one forgets the old"
        );
    }

    #[test]
    fn an_initiator_that_has_more_to_say_is_let() {
        let mut exchange = normal();
        let TextStep::Reply(reply) = exchange.receive(&request(0, NO_TAG), b"X-a=1\0", LIMIT)
        else {
            panic!("refused");
        };
        assert!(!reply.last && !reply.cut);
        let step = exchange.receive(&request(0x80, TAG), b"X-b=1\0", LIMIT);
        assert_eq!(said(step), "X-b=NotUnderstood\0");
    }

    #[test]
    fn keys_of_the_login_are_over() {
        let table: [(&[u8], &str); 6] = [
            (b"MaxBurstLength=4096\0", "MaxBurstLength=Reject\0"),
            (b"AuthMethod=None\0", "AuthMethod=Reject\0"),
            (b"CHAP_R=0x00\0", "CHAP_R=Reject\0"),
            (b"X-other=1\0", "X-other=NotUnderstood\0"),
            (b"X-other=NotUnderstood\0", ""),
            (b"InitiatorAlias=me\0", ""),
        ];
        for (text, answer) in table {
            assert_eq!(said(ask(&mut normal(), text)), answer);
        }
    }

    #[test]
    fn a_new_segment_length_is_told() {
        let TextStep::Reply(reply) = ask(&mut normal(), b"MaxRecvDataSegmentLength=65536\0") else {
            panic!("refused");
        };
        assert_eq!(reply.max_send_data_bytes, Some(65_536));
        assert!(reply.text.is_empty());
    }

    #[test]
    fn what_breaks_the_protocol_is_rejected() {
        let pieces = request(0xc0, NO_TAG);
        let both = normal().receive(&pieces, b"", LIMIT);
        assert_eq!(both, TextStep::Rejected(RejectReason::PROTOCOL_ERROR));
        let texts: [&[u8]; 5] = [
            b"SendTargets=All\0SendTargets=All\0",
            b"MaxRecvDataSegmentLength=511\0",
            b"MaxRecvDataSegmentLength=512\0MaxRecvDataSegmentLength=512\0",
            b"SendTargets",
            &[b'A'; 8193],
        ];
        for text in texts {
            let step = ask(&mut discovery(), text);
            assert_eq!(step, TextStep::Rejected(RejectReason::PROTOCOL_ERROR));
        }
        let unknown = normal().receive(&request(0x80, 7), b"", LIMIT);
        assert_eq!(unknown, TextStep::Rejected(RejectReason::INVALID_PDU_FIELD));
    }

    #[test]
    fn a_rest_is_asked_for_without_words() {
        let mut exchange = discovery();
        exchange.receive(&request(0x80, NO_TAG), b"SendTargets=All\0", 512);
        exchange.targets(&vec![entry("iqn.a"); 50], 512);
        let step = exchange.receive(&request(0x80, TAG), b"X-a=1\0", 512);
        assert_eq!(step, TextStep::Rejected(RejectReason::PROTOCOL_ERROR));
    }

    proptest! {
        #[test]
        fn anything_is_answered_within_bounds(
            requests in vec((any::<u8>(), 0u32..3, vec(any::<u8>(), 0..64)), 0..64)
        ) {
            let mut exchange = discovery();
            for (flag_bits, tag, text) in requests {
                let ttt = if tag == 0 { NO_TAG } else { tag };
                match exchange.receive(&request(flag_bits, ttt), &text, 512) {
                    TextStep::Reply(reply) => prop_assert!(reply.text.len() <= 512),
                    TextStep::Targets(_) => {
                        let reply = exchange.targets(&vec![entry("iqn.a"); 20], 512);
                        prop_assert!(reply.text.len() <= 512);
                    }
                    TextStep::Rejected(_) => {}
                }
                prop_assert!(exchange.gathered.len() <= TEXT_MAX_BYTES);
            }
        }
    }
}
