//! The login itself: stages, requests in pieces, refusals.
//!
//! Source: RFC 7143 sections 6.3 (login), 11.12 (request), 11.13 (response).

use wire::iscsi::text::{Pair, Pairs};
use wire::iscsi::{LoginFlags, LoginRequest, LoginResponse, LoginStatus, Stage, TargetNumbers};

use super::names::who;
use super::talk::Talk;
use super::text::Text;
use super::types::{Admission, Named, Negotiated, Offer, RandomSource, Reply, Step};

/// Most text of one request, put together from its PDUs, in bytes.
pub const TEXT_MAX_BYTES: usize = 16 << 10;
/// Most requests of one login. Ten are a lot: methods, CHAP, and text in pieces.
pub const REQUESTS_MAX: u32 = 64;

/// What the requests of a login have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    isid: [u8; 6],
    tsih: u16,
    cid: u16,
}

impl Identity {
    fn of(request: &LoginRequest) -> Self {
        Self {
            isid: request.isid,
            tsih: request.tsih.get(),
            cid: request.cid.get(),
        }
    }
}

/// What a login is at.
enum Phase {
    /// Waits for a request.
    Receiving,
    /// Waits for the caller to look the target up.
    Asked,
    /// Waits for the caller to make the session. The text is of the last response.
    Finishing(Vec<u8>),
    /// Refused or finished.
    Ended,
}

/// A login in progress. Its memory is bounded by [`TEXT_MAX_BYTES`] and a response.
pub struct Login {
    offer: Offer,
    random: RandomSource,
    phase: Phase,
    stage: Option<Stage>,
    request: LoginRequest,
    identity: Option<Identity>,
    requests: u32,
    gathered: Vec<u8>,
    named: Option<Named>,
    talk: Option<Talk>,
    stat_sn: u32,
}

impl Login {
    /// Nothing received yet. `random` is where challenges come from.
    #[must_use]
    pub fn new(offer: Offer, random: RandomSource) -> Self {
        Self {
            offer,
            random,
            phase: Phase::Receiving,
            stage: None,
            request: LoginRequest::zeroed(),
            identity: None,
            requests: 0,
            gathered: Vec::new(),
            named: None,
            talk: None,
            stat_sn: 0,
        }
    }

    /// Takes a request with its data segment.
    pub fn receive(&mut self, request: &LoginRequest, text: &[u8]) -> Step {
        if self.requests == 0 {
            self.stat_sn = request.exp_stat_sn.get();
        }
        self.request = *request;
        let step = self.accept(text);
        self.or_refuse(step)
    }

    /// Lets the login go on, after [`Step::Named`].
    pub fn proceed(&mut self, admission: Admission) -> Step {
        let step = self.admit(admission).and_then(|()| self.answer());
        self.or_refuse(step)
    }

    /// Refuses the login, after [`Step::Named`] or [`Step::Finished`], or when time is up.
    pub fn refuse(&mut self, status: LoginStatus) -> Reply {
        self.end(status, Vec::new())
    }

    /// Sends the initiator to another portal: `address:port` or `address:port,tag`, with brackets
    /// around an IPv6 address.
    pub fn redirect(&mut self, address: &str, permanent: bool) -> Reply {
        let status = if permanent {
            LoginStatus::MOVED_PERMANENTLY
        } else {
            LoginStatus::MOVED_TEMPORARILY
        };
        let mut text = Text::new();
        match text.pair("TargetAddress", address) {
            Ok(()) => self.end(status, text.into_bytes()),
            Err(_) => self.end(LoginStatus::TARGET_ERROR, Vec::new()),
        }
    }

    /// The last response, after [`Step::Finished`]: full feature phase begins once it is sent.
    pub fn finish(&mut self, tsih: u16) -> Reply {
        let Phase::Finishing(text) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return self.end(LoginStatus::TARGET_ERROR, Vec::new());
        };
        let form = LoginFlags {
            transit: true,
            continues: false,
            current: self.request.form().current,
            next: Stage::FULL_FEATURE,
        };
        self.reply(form, tsih, LoginStatus::SUCCESS, text)
    }

    /// Who asked for what, once that is known.
    #[must_use]
    pub fn named(&self) -> Option<&Named> {
        self.named.as_ref()
    }

    fn accept(&mut self, text: &[u8]) -> Result<Step, LoginStatus> {
        let broken = LoginStatus::INITIATOR_ERROR;
        if !matches!(self.phase, Phase::Receiving) {
            return Err(broken);
        }
        self.requests += 1;
        if self.requests > REQUESTS_MAX || self.gathered.len() + text.len() > TEXT_MAX_BYTES {
            return Err(broken);
        }
        self.check_header()?;
        self.gathered.extend_from_slice(text);
        if self.request.form().continues {
            return Ok(Step::Reply(self.stay(Vec::new())));
        }
        if self.named.is_some() {
            return self.answer();
        }
        let named = who(&self.request, &self.gathered)?;
        self.phase = Phase::Asked;
        self.named = Some(named.clone());
        Ok(Step::Named(named))
    }

    fn check_header(&mut self) -> Result<(), LoginStatus> {
        let broken = LoginStatus::INITIATOR_ERROR;
        if self.request.version_min > 0 {
            return Err(LoginStatus::UNSUPPORTED_VERSION);
        }
        let form = self.request.form();
        let stage = match (self.stage, form.current) {
            (None, Stage::SECURITY | Stage::OPERATIONAL) => form.current,
            (Some(stage), current) if stage == current => stage,
            _ => return Err(broken),
        };
        let forward = match form.next {
            Stage::OPERATIONAL => stage == Stage::SECURITY,
            Stage::FULL_FEATURE => true,
            _ => false,
        };
        if form.transit && (form.continues || !forward) {
            return Err(broken);
        }
        let identity = Identity::of(&self.request);
        if self.identity.is_some_and(|first| first != identity) {
            return Err(broken);
        }
        self.identity = Some(identity);
        self.stage = Some(stage);
        Ok(())
    }

    fn admit(&mut self, admission: Admission) -> Result<(), LoginStatus> {
        let (Phase::Asked, Some(named)) = (&self.phase, &self.named) else {
            return Err(LoginStatus::TARGET_ERROR);
        };
        if admission.session.is_some() != (named.tsih != 0) {
            return Err(LoginStatus::NO_SESSION);
        }
        if let Some(session) = &admission.session {
            let of = |named: &Named| (named.initiator.clone(), named.target.clone(), named.isid);
            if of(&session.named) != of(named) || named.discovery {
                return Err(LoginStatus::CANNOT_INCLUDE);
            }
        }
        let defaults = Negotiated::defaults(named.clone());
        self.talk = Some(Talk::new(self.offer, self.random, defaults, admission));
        self.phase = Phase::Receiving;
        Ok(())
    }

    /// Answers a request that is here in full.
    fn answer(&mut self) -> Result<Step, LoginStatus> {
        let gathered = std::mem::take(&mut self.gathered);
        let pairs: Result<Vec<Pair<'_>>, _> = Pairs::new(&gathered).collect();
        let mut pairs = pairs.map_err(|_| LoginStatus::INITIATOR_ERROR)?;
        // Its limit is the MaxBurstLength agreed on, whichever comes first.
        pairs.sort_by_key(|pair| pair.key == "FirstBurstLength");
        let form = self.request.form();
        let (Some(talk), Some(named)) = (&mut self.talk, &self.named) else {
            return Err(LoginStatus::TARGET_ERROR);
        };
        let text = talk.take(named, form, &pairs)?;
        let next = talk.next(form)?;
        match next {
            None => Ok(Step::Reply(self.stay(text))),
            Some(Stage::FULL_FEATURE) => self.finished(text),
            Some(next) => {
                self.stage = Some(next);
                let form = LoginFlags { next, ..form };
                Ok(Step::Reply(self.go_on(form, text)))
            }
        }
    }

    fn finished(&mut self, text: Vec<u8>) -> Result<Step, LoginStatus> {
        let talk = self.talk.as_ref().ok_or(LoginStatus::TARGET_ERROR)?;
        let negotiated = Negotiated {
            cmd_sn: self.request.cmd_sn.get(),
            stat_sn: self.stat_sn,
            ..talk.negotiated()?
        };
        self.phase = Phase::Finishing(text);
        Ok(Step::Finished(Box::new(negotiated)))
    }

    fn stay(&mut self, text: Vec<u8>) -> Reply {
        let form = LoginFlags {
            transit: false,
            continues: false,
            current: self.request.form().current,
            next: Stage::SECURITY,
        };
        self.go_on(form, text)
    }

    fn go_on(&mut self, form: LoginFlags, text: Vec<u8>) -> Reply {
        let tsih = self.request.tsih.get();
        self.reply(form, tsih, LoginStatus::SUCCESS, text)
    }

    fn or_refuse(&mut self, step: Result<Step, LoginStatus>) -> Step {
        step.unwrap_or_else(|status| Step::Refused(self.refuse(status)))
    }

    fn end(&mut self, status: LoginStatus, text: Vec<u8>) -> Reply {
        self.phase = Phase::Ended;
        self.gathered = Vec::new();
        let form = LoginFlags::decode(0);
        let tsih = self.request.tsih.get();
        self.reply(form, tsih, status, text)
    }

    fn reply(&mut self, form: LoginFlags, tsih: u16, status: LoginStatus, text: Vec<u8>) -> Reply {
        let exp_cmd_sn = self.request.cmd_sn.get();
        let window = self.offer.command_window.max(1);
        let numbers = TargetNumbers {
            stat_sn: self.stat_sn,
            exp_cmd_sn,
            max_cmd_sn: exp_cmd_sn.wrapping_add(window - 1),
        };
        self.stat_sn = self.stat_sn.wrapping_add(1);
        let header = LoginResponse::new(&self.request, form, tsih, status, text.len(), numbers);
        Reply { header, text }
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Login>();
    is_send::<Step>();
    is_send::<Admission>();
};
