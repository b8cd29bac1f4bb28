//! The login itself: stages, requests in pieces, refusals.
//!
//! Source: RFC 7143 sections 6.3 (login), 11.12 (request), 11.13 (response).

use std::fmt::Display;

use wire::iscsi::text::{Full, Pair, Pairs, TextWriter};
use wire::iscsi::{
    DEFAULT_MAX_DATA_BYTES, LoginFlags, LoginRequest, LoginResponse, LoginStatus, Stage,
    TargetNumbers,
};

use super::names::normalize;
use super::operational::Operational;
use super::security::{Security, is_security_key};
use super::types::{Admission, Named, Negotiated, Offer, RandomSource, Reply, Step};

/// Most text of one request, put together from its PDUs, in bytes.
pub const TEXT_MAX_BYTES: usize = 16 << 10;
/// Most requests of one login. Ten are a lot: methods, CHAP, and text in pieces.
pub const REQUESTS_MAX: u32 = 64;

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

/// The sides of a login that was let in.
struct Talk {
    security: Security,
    operational: Operational,
    admission: Admission,
    greeted: bool,
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
            Ok(()) => self.end(status, text.bytes),
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
        let named = self.name()?;
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

    /// Reads from the first request who asks for what.
    fn name(&self) -> Result<Named, LoginStatus> {
        let mut found: [Option<&str>; 4] = [None; 4];
        for pair in Pairs::new(&self.gathered) {
            let pair = pair.map_err(|_| LoginStatus::INITIATOR_ERROR)?;
            let Some(index) = NAMES.iter().position(|name| *name == pair.key) else {
                continue;
            };
            let place = found.get_mut(index).ok_or(LoginStatus::TARGET_ERROR)?;
            if place.replace(pair.value).is_some() {
                return Err(LoginStatus::INITIATOR_ERROR);
            }
        }
        let [initiator, target, session_type, alias] = found;
        let name = |value: &str| normalize(value).ok_or(LoginStatus::INITIATOR_ERROR);
        let initiator = initiator.ok_or(LoginStatus::MISSING_PARAMETER)?;
        let discovery = match session_type {
            None | Some("Normal") => false,
            Some("Discovery") => true,
            Some(_) => return Err(LoginStatus::SESSION_TYPE),
        };
        let target = target.map(name).transpose()?;
        if target.is_none() && !discovery {
            return Err(LoginStatus::MISSING_PARAMETER);
        }
        Ok(Named {
            initiator: name(initiator)?,
            initiator_alias: alias.map(str::to_owned),
            target,
            discovery,
            isid: self.request.isid,
            tsih: self.request.tsih.get(),
            cid: self.request.cid.get(),
        })
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
        self.talk = Some(Talk {
            security: Security::new(admission.chap.clone(), self.random),
            operational: Operational::new(self.offer, defaults, admission.session.as_ref()),
            admission,
            greeted: false,
        });
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
        let text = talk.take(named, form.current, &pairs)?;
        let next = talk.next(form)?;
        match next {
            None => Ok(Step::Reply(self.stay(text))),
            Some(Stage::FULL_FEATURE) => Ok(self.finished(text)),
            Some(next) => {
                self.stage = Some(next);
                let form = LoginFlags { next, ..form };
                Ok(Step::Reply(self.go_on(form, text)))
            }
        }
    }

    fn finished(&mut self, text: Vec<u8>) -> Step {
        let Some(talk) = &self.talk else {
            return Step::Refused(self.refuse(LoginStatus::TARGET_ERROR));
        };
        let mut negotiated = talk.operational.negotiated();
        negotiated.user = talk.security.user();
        negotiated.cmd_sn = self.request.cmd_sn.get();
        negotiated.stat_sn = self.stat_sn;
        self.phase = Phase::Finishing(text);
        Step::Finished(Box::new(negotiated))
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

/// What the first request says about itself.
const NAMES: [&str; 4] = [
    "InitiatorName",
    "TargetName",
    "SessionType",
    "InitiatorAlias",
];

impl Talk {
    /// Takes the pairs of a request in `stage`, and gives the text of the answer.
    fn take(
        &mut self,
        named: &Named,
        stage: Stage,
        pairs: &[Pair<'_>],
    ) -> Result<Vec<u8>, LoginStatus> {
        let mut reply = Text::new();
        if !self.greeted {
            self.greet(named, &mut reply)?;
        }
        if stage == Stage::SECURITY {
            self.security.take(&named.initiator, pairs, &mut reply)?;
        } else if !self.security.is_done() {
            return Err(LoginStatus::AUTHENTICATION_FAILED);
        }
        for pair in pairs {
            if NAMES.contains(&pair.key) {
                is_same(named, pair)?;
            } else if !is_security_key(pair.key) {
                self.operational.take(pair, &mut reply)?;
            } else if stage != Stage::SECURITY {
                return Err(LoginStatus::INITIATOR_ERROR);
            }
        }
        if stage == Stage::OPERATIONAL {
            self.operational.speak(&mut reply)?;
        }
        Ok(reply.bytes)
    }

    /// The portal group's tag belongs into the first response (section 13.9).
    fn greet(&mut self, named: &Named, reply: &mut Text) -> Result<(), LoginStatus> {
        self.greeted = true;
        if named.discovery {
            return Ok(());
        }
        if let Some(alias) = &self.admission.target_alias {
            reply.pair("TargetAlias", alias)?;
        }
        reply.pair("TargetPortalGroupTag", self.admission.portal_group_tag)
    }

    /// The stage after this one, when the initiator wants to leave it and may.
    fn next(&self, form: LoginFlags) -> Result<Option<Stage>, LoginStatus> {
        if !form.transit {
            return Ok(None);
        }
        if form.current == Stage::OPERATIONAL {
            return Ok((!self.operational.is_waiting()).then_some(form.next));
        }
        if !self.security.is_done() {
            // Who wants to leave without a word about a method will not prove anything.
            return match self.security.is_untouched() {
                true => Err(LoginStatus::AUTHENTICATION_FAILED),
                false => Ok(None),
            };
        }
        if self.operational.is_needed() {
            return Ok(Some(Stage::OPERATIONAL));
        }
        Ok(Some(form.next))
    }
}

/// A name that is said again has to be the same.
fn is_same(named: &Named, pair: &Pair<'_>) -> Result<(), LoginStatus> {
    let same = match pair.key {
        "InitiatorName" => normalize(pair.value).as_ref() == Some(&named.initiator),
        "TargetName" => normalize(pair.value) == named.target,
        "SessionType" => (pair.value == "Discovery") == named.discovery,
        _ => named.initiator_alias.as_deref() == Some(pair.value),
    };
    if same {
        return Ok(());
    }
    Err(LoginStatus::INITIATOR_ERROR)
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Login>();
    is_send::<Step>();
    is_send::<Admission>();
};
