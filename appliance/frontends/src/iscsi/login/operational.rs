//! Operational negotiation: one answer for each key that is offered, and an offer of our own where
//! the default does not do.
//!
//! Source: RFC 7143 sections 6.2 (negotiation), 6.3.3 (operational stage), 13.

use wire::iscsi::LoginStatus;
use wire::iscsi::text::{Pair, list, number};

use super::keys::{ANSWERS, Function, Key, RULES, Rule};
use super::text::Text;
use super::types::{Negotiated, Offer};

/// How far a key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Not spoken of: the default holds.
    #[default]
    Open,
    /// Offered by this target, not answered yet.
    Offered,
    /// Agreed.
    Done,
}

/// The keys of one login.
#[derive(Clone, Debug)]
pub(super) struct Operational {
    offer: Offer,
    states: [State; RULES.len()],
    negotiated: Negotiated,
    /// A connection that joins a session finds the session's keys agreed.
    joined: bool,
    own_declared: bool,
    theirs_declared: bool,
}

impl Operational {
    /// With the defaults, or with what the joined session has.
    pub fn new(offer: Offer, defaults: Negotiated, session: Option<&Negotiated>) -> Self {
        let mut negotiated = defaults;
        if let Some(session) = session {
            for rule in RULES.iter().filter(|rule| rule.leading_only) {
                rule.set(&mut negotiated, rule.get(session));
            }
        }
        Self {
            offer,
            states: Default::default(),
            negotiated,
            joined: session.is_some(),
            own_declared: false,
            theirs_declared: false,
        }
    }

    /// Takes one pair; the answer goes into `reply`.
    ///
    /// Errors: the status to refuse the login with.
    pub fn take(&mut self, pair: &Pair<'_>, reply: &mut Text) -> Result<(), LoginStatus> {
        let Pair { key, value } = *pair;
        if let Some((index, rule)) = find(key) {
            return self.negotiate(index, rule, value, reply);
        }
        if ANSWERS.contains(&value) {
            return Ok(());
        }
        match key {
            "MaxRecvDataSegmentLength" => self.declared(value),
            "TaskReporting" => {
                let known = list(value).any(|one| one == "RFC3720");
                reply.pair(key, if known { "RFC3720" } else { "Reject" })
            }
            // Obsolete, and to be answered all the same (section 13.25).
            "IFMarker" | "OFMarker" | "RDMAExtensions" => reply.pair(key, "No"),
            "IFMarkInt" | "OFMarkInt" => reply.pair(key, "Reject"),
            // Only once the login is over (section 13.3).
            "SendTargets" => reply.pair(key, "Reject"),
            // Only a target says these.
            "TargetAddress" | "TargetAlias" | "TargetPortalGroupTag" => {
                Err(LoginStatus::INITIATOR_ERROR)
            }
            _ => reply.pair(key, "NotUnderstood"),
        }
    }

    fn negotiate(
        &mut self,
        index: usize,
        rule: &Rule,
        value: &str,
        reply: &mut Text,
    ) -> Result<(), LoginStatus> {
        let state = self.states.get(index).copied().unwrap_or_default();
        if state == State::Done {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        if ANSWERS.contains(&value) {
            return self.answered_without_value(index, state);
        }
        let limits = self.limits();
        self.set_state(index, State::Done);
        if rule.no_discovery && self.negotiated.named.discovery {
            return match state {
                State::Offered => Ok(()),
                _ => reply.pair(rule.name, "Irrelevant"),
            };
        }
        let chosen = rule
            .choose(value, &limits)
            .ok_or(LoginStatus::INITIATOR_ERROR)?;
        if self.joined && rule.leading_only && chosen != rule.get(&self.negotiated) {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        rule.set(&mut self.negotiated, chosen);
        match state {
            // Our offer was answered. The answer has to be one that our offer leads to.
            State::Offered if rule.text(chosen) == value => Ok(()),
            State::Offered => Err(LoginStatus::INITIATOR_ERROR),
            _ => reply.pair(rule.name, rule.text(chosen)),
        }
    }

    /// "Reject" and its like: fine for what was never offered, the end for what we have to have.
    fn answered_without_value(&mut self, index: usize, state: State) -> Result<(), LoginStatus> {
        if state == State::Offered {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        self.set_state(index, State::Open);
        Ok(())
    }

    /// Our values as far as other keys bound them: FirstBurstLength by the MaxBurstLength agreed
    /// on, a joined session's by the session.
    fn limits(&self) -> Offer {
        let mut offer = self.offer;
        if self.state(Key::MaxBurst) == State::Done || self.joined {
            offer.max_burst_bytes = self.negotiated.max_burst_bytes;
        }
        if self.joined {
            let session = &self.negotiated;
            offer.max_connections = session.max_connections;
            offer.initial_r2t = session.initial_r2t;
            offer.immediate_data = session.immediate_data;
            offer.first_burst_bytes = session.first_burst_bytes;
            offer.time2wait_s = session.time2wait_s;
            offer.time2retain_s = session.time2retain_s;
            offer.max_outstanding_r2t = session.max_outstanding_r2t;
            offer.protocol_level = session.protocol_level;
        }
        offer
    }

    fn declared(&mut self, value: &str) -> Result<(), LoginStatus> {
        if self.theirs_declared {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        self.theirs_declared = true;
        self.negotiated.max_send_data_bytes =
            data_segment(value).ok_or(LoginStatus::INITIATOR_ERROR)?;
        Ok(())
    }

    /// Ends the wait for answers: small initiators pass over what they are offered, and then the
    /// defaults hold.
    ///
    /// Errors: the default does not do at all, as for a digest that is required.
    pub fn lapse(&mut self) -> Result<(), LoginStatus> {
        for (state, rule) in self.states.iter_mut().zip(&RULES) {
            if *state == State::Offered {
                if rule.function == Function::Digest {
                    return Err(LoginStatus::INITIATOR_ERROR);
                }
                *state = State::Done;
            }
        }
        Ok(())
    }

    /// Adds what this target has to say by itself: its MaxRecvDataSegmentLength, and offers.
    pub fn speak(&mut self, reply: &mut Text) -> Result<(), LoginStatus> {
        if !self.own_declared {
            self.own_declared = true;
            self.negotiated.max_recv_data_bytes = self.offer.max_recv_data_bytes;
            reply.pair("MaxRecvDataSegmentLength", self.offer.max_recv_data_bytes)?;
        }
        for (index, rule) in RULES.iter().enumerate() {
            if self.has_to_offer(index, rule) {
                self.set_state(index, State::Offered);
                reply.pair(rule.name, rule.text(rule.ours(&self.offer)))?;
            }
        }
        Ok(())
    }

    /// Whether there are defaults that do not do, so that the stage cannot be left out.
    pub fn is_needed(&self) -> bool {
        let mut rules = RULES.iter().enumerate();
        rules.any(|(index, rule)| self.has_to_offer(index, rule))
    }

    fn has_to_offer(&self, index: usize, rule: &Rule) -> bool {
        let meaningless = rule.no_discovery && self.negotiated.named.discovery;
        let agreed = self.joined && rule.leading_only;
        let state = self.states.get(index).copied().unwrap_or_default();
        rule.is_offered
            && state == State::Open
            && !meaningless
            && !agreed
            && rule.has_to_change(rule.get(&self.negotiated), &self.offer)
    }

    /// Whether offers of this target wait for their answers.
    pub fn is_waiting(&self) -> bool {
        self.states.contains(&State::Offered)
    }

    /// What was agreed on.
    pub fn negotiated(&self) -> Negotiated {
        let mut negotiated = self.negotiated.clone();
        let limit = negotiated.max_burst_bytes;
        negotiated.first_burst_bytes = negotiated.first_burst_bytes.min(limit);
        negotiated
    }

    fn state(&self, key: Key) -> State {
        let index = RULES.iter().position(|rule| rule.key == key);
        let state = index.and_then(|index| self.states.get(index));
        state.copied().unwrap_or_default()
    }

    fn set_state(&mut self, index: usize, state: State) {
        if let Some(place) = self.states.get_mut(index) {
            *place = state;
        }
    }
}

fn find(key: &str) -> Option<(usize, &'static Rule)> {
    RULES.iter().enumerate().find(|(_, rule)| rule.name == key)
}

/// A value of MaxRecvDataSegmentLength in bytes.
pub(super) fn data_segment(value: &str) -> Option<u32> {
    let value = u32::try_from(number(value)?).ok()?;
    (512..1 << 24).contains(&value).then_some(value)
}
