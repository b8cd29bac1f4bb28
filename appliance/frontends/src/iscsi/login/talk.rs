//! What is said in a login once it was let in: security, then the operational keys.
//!
//! Source: RFC 7143 sections 6.3.2 (security stage), 6.3.3 (operational stage).

use wire::iscsi::text::Pair;
use wire::iscsi::{LoginFlags, LoginStatus, Stage};

use super::names::{NAMES, is_same};
use super::operational::Operational;
use super::security::{Security, is_security_key};
use super::text::Text;
use super::types::{Admission, Named, Negotiated, Offer, RandomSource};

/// The sides of a login that was let in.
pub(super) struct Talk {
    security: Security,
    operational: Operational,
    admission: Admission,
    greeted: bool,
}

impl Talk {
    pub fn new(
        offer: Offer,
        random: RandomSource,
        defaults: Negotiated,
        admission: Admission,
    ) -> Self {
        Self {
            security: Security::new(admission.chap.clone(), random),
            operational: Operational::new(offer, defaults, admission.session.as_ref()),
            admission,
            greeted: false,
        }
    }

    /// What was agreed on and proven.
    ///
    /// Errors: who joins a session is another user than the one who began it.
    pub fn negotiated(&self) -> Result<Negotiated, LoginStatus> {
        let user = self.security.user();
        let session = self.admission.session.as_ref();
        if session.is_some_and(|session| session.user != user) {
            return Err(LoginStatus::NOT_AUTHORIZED);
        }
        Ok(Negotiated {
            user,
            ..self.operational.negotiated()
        })
    }

    /// Takes the pairs of a request, and gives the text of the answer.
    pub fn take(
        &mut self,
        named: &Named,
        form: LoginFlags,
        pairs: &[Pair<'_>],
    ) -> Result<Vec<u8>, LoginStatus> {
        let stage = form.current;
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
            // What is still open now was offered in an earlier response.
            if form.transit {
                self.operational.lapse()?;
            }
            self.operational.speak(&mut reply)?;
        }
        Ok(reply.into_bytes())
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
    pub fn next(&self, form: LoginFlags) -> Result<Option<Stage>, LoginStatus> {
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
