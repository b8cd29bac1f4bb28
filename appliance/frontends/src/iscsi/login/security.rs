//! Security negotiation: the method, and CHAP in one direction or both.
//!
//! ```text
//! initiator                          target
//! AuthMethod=CHAP,None          ->   AuthMethod=CHAP
//! CHAP_A=5,7                    ->   CHAP_A=7 CHAP_I CHAP_C
//! CHAP_N CHAP_R [CHAP_I CHAP_C] ->   [CHAP_N CHAP_R]
//! ```
//!
//! Source: RFC 7143 sections 6.3.2 (stage), 9.2.1 and 12.1 (methods, CHAP), RFC 1994.

use std::sync::Arc;

use wire::iscsi::LoginStatus;
use wire::iscsi::text::{Pair, decode_binary, list, number};

use super::chap::is_equal;
use super::chap::{Algorithm, CHALLENGE_BYTES, CHALLENGE_MAX_BYTES, ChapSecrets, ChapUser};
use super::text::Text;
use super::types::RandomSource;

/// Longest response: of SHA-256.
const RESPONSE_MAX_BYTES: usize = 32;

/// How far the initiator is.
#[derive(Clone, Debug)]
enum State {
    /// Nothing was said.
    Start,
    /// CHAP was agreed on.
    Method,
    /// A challenge is out. It is good for one response.
    Challenged(Challenge),
    /// Nothing more to prove; the CHAP name, when there was something.
    Done(Option<String>),
}

#[derive(Clone, Debug)]
struct Challenge {
    algorithm: Algorithm,
    identifier: u8,
    bytes: [u8; CHALLENGE_BYTES],
}

/// The security side of one login.
#[derive(Clone, Debug)]
pub(super) struct Security {
    secrets: Option<Arc<ChapSecrets>>,
    state: State,
    random: RandomSource,
}

/// The keys of one text that matter here.
#[derive(Default)]
struct Keys<'a> {
    method: Option<&'a str>,
    algorithms: Option<&'a str>,
    name: Option<&'a str>,
    response: Option<&'a str>,
    identifier: Option<&'a str>,
    challenge: Option<&'a str>,
}

impl<'a> Keys<'a> {
    fn gather(pairs: &[Pair<'a>]) -> Result<Self, LoginStatus> {
        let mut keys = Self::default();
        for pair in pairs {
            let Some(place) = keys.place(pair.key) else {
                continue;
            };
            if place.replace(pair.value).is_some() {
                return Err(LoginStatus::INITIATOR_ERROR);
            }
        }
        Ok(keys)
    }

    fn place(&mut self, key: &str) -> Option<&mut Option<&'a str>> {
        Some(match key {
            "AuthMethod" => &mut self.method,
            "CHAP_A" => &mut self.algorithms,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            "CHAP_I" => &mut self.identifier,
            "CHAP_C" => &mut self.challenge,
            _ => return None,
        })
    }

    fn proof(&self) -> bool {
        let all = [self.name, self.response, self.identifier, self.challenge];
        all.iter().any(Option::is_some)
    }
}

/// Whether `key` is one of this stage.
pub(super) fn is_security_key(key: &str) -> bool {
    Keys::default().place(key).is_some()
}

impl Security {
    pub fn new(secrets: Option<Arc<ChapSecrets>>, random: RandomSource) -> Self {
        Self {
            secrets,
            state: State::Start,
            random,
        }
    }

    /// Whether the initiator may go on to the next stage.
    pub fn is_done(&self) -> bool {
        self.secrets.is_none() || matches!(self.state, State::Done(_))
    }

    /// CHAP name that was proven.
    pub fn user(&self) -> Option<String> {
        match &self.state {
            State::Done(user) => user.clone(),
            _ => None,
        }
    }

    /// Whether the initiator said nothing that leads anywhere: it will not prove itself.
    pub fn is_untouched(&self) -> bool {
        matches!(self.state, State::Start)
    }

    /// Takes the pairs of one text; answers go into `reply`.
    ///
    /// Errors: the status to refuse the login with.
    pub fn take(
        &mut self,
        initiator: &str,
        pairs: &[Pair<'_>],
        reply: &mut Text,
    ) -> Result<(), LoginStatus> {
        let keys = Keys::gather(pairs)?;
        if let Some(methods) = keys.method {
            self.method(methods, reply)?;
        }
        if let Some(algorithms) = keys.algorithms {
            self.challenge(algorithms, reply)?;
        }
        if keys.proof() {
            self.prove(initiator, &keys, reply)?;
        }
        Ok(())
    }

    fn method(&mut self, methods: &str, reply: &mut Text) -> Result<(), LoginStatus> {
        if !matches!(self.state, State::Start) {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        let (wanted, state) = match self.secrets {
            Some(_) => ("CHAP", State::Method),
            None => ("None", State::Done(None)),
        };
        if !list(methods).any(|one| one == wanted) {
            return Err(LoginStatus::AUTHENTICATION_FAILED);
        }
        self.state = state;
        reply.pair("AuthMethod", wanted)
    }

    fn challenge(&mut self, algorithms: &str, reply: &mut Text) -> Result<(), LoginStatus> {
        if !matches!(self.state, State::Method) {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        let algorithm = Algorithm::choose(algorithms).ok_or(LoginStatus::AUTHENTICATION_FAILED)?;
        let mut random = [0; CHALLENGE_BYTES + 1];
        (self.random)(&mut random);
        let [identifier, bytes @ ..] = random;
        reply.pair("CHAP_A", algorithm.number())?;
        reply.pair("CHAP_I", identifier)?;
        reply.binary("CHAP_C", &bytes)?;
        self.state = State::Challenged(Challenge {
            algorithm,
            identifier,
            bytes,
        });
        Ok(())
    }

    fn prove(
        &mut self,
        initiator: &str,
        keys: &Keys<'_>,
        reply: &mut Text,
    ) -> Result<(), LoginStatus> {
        // Whatever comes of it, the challenge is used up.
        let State::Challenged(challenge) = std::mem::replace(&mut self.state, State::Start) else {
            return Err(LoginStatus::INITIATOR_ERROR);
        };
        let secrets = self.secrets.clone().unwrap_or_default();
        let (Some(name), Some(response)) = (keys.name, keys.response) else {
            return Err(LoginStatus::MISSING_PARAMETER);
        };
        let user = verify(&secrets, initiator, name, response, &challenge)?;
        match (keys.identifier, keys.challenge) {
            (None, None) => {}
            (Some(identifier), Some(theirs)) => {
                answer(&secrets, user, &challenge, (identifier, theirs), reply)?;
            }
            _ => return Err(LoginStatus::MISSING_PARAMETER),
        }
        self.state = State::Done(Some(user.user.clone()));
        Ok(())
    }
}

/// Compares the response with the one that the user's secret gives.
fn verify<'a>(
    secrets: &'a ChapSecrets,
    initiator: &str,
    name: &str,
    response: &str,
    challenge: &Challenge,
) -> Result<&'a ChapUser, LoginStatus> {
    let user = secrets.find(initiator, name);
    // A name that is not known takes as long as one that is.
    let secret = user.map_or(&[][..], |user| &user.secret);
    let expected = challenge
        .algorithm
        .response(challenge.identifier, secret, &challenge.bytes);
    let mut received = [0; RESPONSE_MAX_BYTES];
    let len = decode_binary(response, &mut received).unwrap_or(0);
    let good = is_equal(received.get(..len).unwrap_or_default(), &expected);
    user.filter(|user| good && !user.secret.is_empty())
        .ok_or(LoginStatus::AUTHENTICATION_FAILED)
}

/// Answers the initiator's challenge (mutual CHAP).
fn answer(
    secrets: &ChapSecrets,
    user: &ChapUser,
    ours: &Challenge,
    (identifier, challenge): (&str, &str),
    reply: &mut Text,
) -> Result<(), LoginStatus> {
    let failed = LoginStatus::AUTHENTICATION_FAILED;
    let target = secrets.target.as_ref().ok_or(failed)?;
    let identifier = number(identifier).and_then(|value| u8::try_from(value).ok());
    let identifier = identifier.ok_or(LoginStatus::INITIATOR_ERROR)?;
    let mut theirs = [0; CHALLENGE_MAX_BYTES];
    let len = decode_binary(challenge, &mut theirs).ok_or(LoginStatus::INITIATOR_ERROR)?;
    let theirs = theirs.get(..len).unwrap_or_default();
    // A challenge that is sent back, or one secret for both directions, would have the target
    // compute what an impostor needs (RFC 7143 section 9.2.1).
    if theirs == ours.bytes || target.secret == user.secret || target.secret.is_empty() {
        return Err(failed);
    }
    reply.pair("CHAP_N", &target.user)?;
    let response = ours.algorithm.response(identifier, &target.secret, theirs);
    reply.binary("CHAP_R", &response)
}
