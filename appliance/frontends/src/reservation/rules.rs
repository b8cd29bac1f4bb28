//! What each command makes of the state. Pure: no I/O, no time.
//!
//! Source: SPC-4 sections 5.13.5 to 5.13.11; NVM Express base 2.0 section 8.19. Where the two differ
//! the command says so ([`Current`]); everything else is the same rule.

use std::collections::BTreeSet;

use super::State;
use super::action::Change;
use super::{Action, Current, Held, Identity, Kind, Notice, REGISTRANTS_MAX, Refusal, Registrant};

impl State {
    /// What comes of `action`, sent by `who` to a SCSI target with these ports.
    pub(super) fn apply(
        &self,
        who: &Identity,
        action: &Action,
        target_ports: &BTreeSet<u16>,
    ) -> Result<Change, Refusal> {
        let mut next = Draft::of(self, who);
        match action {
            Action::Register {
                current,
                key,
                also,
                all_ports,
                persist,
            } => {
                let target_ports = all_ports.then_some(target_ports);
                next.register(*current, *key, (also, target_ports), *persist)?;
            }
            Action::Reserve { key, kind } => next.reserve(*key, *kind)?,
            Action::Release { key, kind } => next.release(*key, *kind)?,
            Action::Clear { key } => next.clear(*key)?,
            Action::Preempt {
                key,
                victim,
                kind,
                abort,
            } => next.preempt(*key, *victim, *kind, *abort)?,
            Action::Move {
                key,
                to,
                new_key,
                unregister,
                persist,
            } => next.move_to(*key, (to, *new_key), *unregister, *persist)?,
            Action::Persist(persist) => next.state.is_persistent = *persist,
        }
        Ok(next.change())
    }

    /// Nothing is left; those who were registered are told.
    pub(super) fn forget(&self) -> Change {
        let told = self.registrants.iter();
        let told = told.map(|one| (one.identity.clone(), Notice::ReservationsPreempted));
        Change {
            notices: told.collect(),
            state: State {
                generation: self.generation.wrapping_add(1),
                ..State::default()
            },
            aborted: Vec::new(),
        }
    }
}

/// The next state in the making.
struct Draft<'a> {
    who: &'a Identity,
    state: State,
    notices: Vec<(Identity, Notice)>,
    aborted: Vec<Identity>,
}

impl<'a> Draft<'a> {
    fn of(state: &State, who: &'a Identity) -> Self {
        Self {
            who,
            state: state.clone(),
            notices: Vec::new(),
            aborted: Vec::new(),
        }
    }

    fn change(self) -> Change {
        Change {
            state: self.state,
            notices: self.notices,
            aborted: self.aborted,
        }
    }

    fn register(
        &mut self,
        current: Current,
        key: u64,
        (also, target_ports): (&[Identity], Option<&BTreeSet<u16>>),
        persist: Option<bool>,
    ) -> Result<(), Refusal> {
        let before = self.state.key_of(self.who);
        if !current.fits(before, key) {
            return Err(Refusal::Conflict);
        }
        // SPC-4 table 49: others are registered only together with a sender that was not.
        if !also.is_empty() && (before.is_some() || key == 0) {
            return Err(Refusal::OthersNotAllowed);
        }
        if also.iter().any(|one| self.state.is_registrant(one)) {
            return Err(Refusal::InvalidIdentity);
        }
        if key == 0 && before.is_none() {
            // The same table: nothing happens, nothing is counted.
            return Ok(());
        }
        for identity in std::iter::once(self.who).chain(also) {
            let places = match target_ports {
                Some(target_ports) => identity.at_ports(target_ports),
                None => vec![identity.clone()],
            };
            for identity in &places {
                match key {
                    0 => self.unregister(identity),
                    key => self.enter(identity, key)?,
                }
            }
        }
        self.persist(persist);
        self.count();
        Ok(())
    }

    fn reserve(&mut self, key: u64, kind: Kind) -> Result<(), Refusal> {
        self.check_key(key)?;
        match &self.state.held {
            None => self.hold(kind),
            Some(held) if held.kind == kind && self.state.is_holder(self.who) => {}
            Some(_) => return Err(Refusal::Conflict),
        }
        Ok(())
    }

    fn release(&mut self, key: u64, kind: Option<Kind>) -> Result<(), Refusal> {
        self.check_key(key)?;
        let Some(held) = &self.state.held else {
            return Ok(());
        };
        if !self.state.is_holder(self.who) {
            return Ok(());
        }
        if Some(held.kind) != kind {
            return Err(Refusal::WrongRelease);
        }
        self.let_go();
        Ok(())
    }

    fn clear(&mut self, key: u64) -> Result<(), Refusal> {
        self.check_key(key)?;
        self.tell_others(Notice::ReservationsPreempted);
        self.state.registrants.clear();
        self.state.held = None;
        self.count();
        Ok(())
    }

    fn preempt(
        &mut self,
        key: u64,
        victim: u64,
        kind: Option<Kind>,
        abort: bool,
    ) -> Result<(), Refusal> {
        self.check_key(key)?;
        let removed = match self.held_by_key(victim) {
            Some(held) => self.take(held, victim, kind.ok_or(Refusal::InvalidKind)?),
            None if victim == 0 => return Err(Refusal::InvalidKey),
            None => self.remove(victim)?,
        };
        if abort {
            self.aborted = removed;
        }
        self.count();
        Ok(())
    }

    /// The reservation, if preempting `victim` means to take it.
    fn held_by_key(&self, victim: u64) -> Option<Kind> {
        let held = self.state.held.as_ref()?;
        let is_meant = match &held.holder {
            None => victim == 0,
            Some(holder) => victim != 0 && self.state.key_of(holder) == Some(victim),
        };
        is_meant.then_some(held.kind)
    }

    /// Takes the reservation; its holder and all with its key are no registrants any more.
    fn take(&mut self, before: Kind, victim: u64, kind: Kind) -> Vec<Identity> {
        let who = self.who;
        let removed = self.drain(|one| one.identity != *who && (victim == 0 || one.key == victim));
        if before != kind {
            self.tell_others(Notice::Released);
        }
        self.hold(kind);
        removed
    }

    /// Removes registrants without the reservation.
    fn remove(&mut self, victim: u64) -> Result<Vec<Identity>, Refusal> {
        let who = self.who;
        let was_there = self.state.registrants.iter().any(|one| one.key == victim);
        if !was_there {
            return Err(Refusal::Conflict);
        }
        let removed = self.drain(|one| one.identity != *who && one.key == victim);
        if self.state.key_of(who) == Some(victim) {
            self.unregister(who);
        }
        Ok(removed)
    }

    /// Takes out registrants and tells them.
    fn drain(&mut self, is_removed: impl Fn(&Registrant) -> bool) -> Vec<Identity> {
        let all = std::mem::take(&mut self.state.registrants);
        let (removed, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_removed);
        self.state.registrants = kept;
        let removed: Vec<Identity> = removed.into_iter().map(|one| one.identity).collect();
        let told = removed.iter().cloned();
        self.notices
            .extend(told.map(|one| (one, Notice::Preempted)));
        self.drop_empty();
        removed
    }

    fn move_to(
        &mut self,
        key: u64,
        (to, new_key): (&Identity, u64),
        unregister: bool,
        persist: Option<bool>,
    ) -> Result<(), Refusal> {
        self.check_key(key)?;
        let held = self.state.held.as_ref().ok_or(Refusal::NothingToMove)?;
        if held.holder.as_ref() != Some(self.who) {
            return Err(Refusal::Conflict);
        }
        if new_key == 0 {
            return Err(Refusal::InvalidKey);
        }
        if to == self.who {
            return Err(Refusal::InvalidIdentity);
        }
        let kind = held.kind;
        self.enter(to, new_key)?;
        self.state.held = Some(Held {
            kind,
            holder: Some(to.clone()),
        });
        if unregister {
            self.unregister(self.who);
        }
        self.persist(persist);
        self.count();
        Ok(())
    }

    /// The sender is registered with this key.
    fn check_key(&self, key: u64) -> Result<(), Refusal> {
        match self.state.key_of(self.who) {
            Some(registered) if registered == key => Ok(()),
            _ => Err(Refusal::Conflict),
        }
    }

    /// Registers, or changes the key of a registrant.
    fn enter(&mut self, identity: &Identity, key: u64) -> Result<(), Refusal> {
        let all = &mut self.state.registrants;
        if let Some(found) = all.iter_mut().find(|one| one.identity == *identity) {
            found.key = key;
            return Ok(());
        }
        if all.len() >= REGISTRANTS_MAX {
            return Err(Refusal::Full);
        }
        let identity = identity.clone();
        all.push(Registrant { identity, key });
        Ok(())
    }

    /// Takes out a registrant on its own wish. What it alone held is released.
    fn unregister(&mut self, identity: &Identity) {
        let was_holder = self.state.is_holder(identity);
        let all = &mut self.state.registrants;
        all.retain(|one| one.identity != *identity);
        let held_alone = self
            .state
            .held
            .as_ref()
            .is_some_and(|held| held.holder.is_some());
        if was_holder && held_alone {
            self.let_go();
        }
        self.drop_empty();
    }

    fn hold(&mut self, kind: Kind) {
        let holder = (!kind.is_all_registrants()).then(|| self.who.clone());
        self.state.held = Some(Held { kind, holder });
    }

    /// The reservation ends by the wish of its holder.
    fn let_go(&mut self) {
        if let Some(held) = self.state.held.take()
            && !held.kind.is_of_one()
        {
            self.tell_others(Notice::Released);
        }
    }

    /// Without registrants nobody holds it.
    fn drop_empty(&mut self) {
        if self.state.registrants.is_empty() {
            self.state.held = None;
        }
    }

    fn tell_others(&mut self, notice: Notice) {
        let others = self.state.registrants.iter();
        let others = others.filter(|one| one.identity != *self.who);
        let told = others.map(|one| (one.identity.clone(), notice));
        self.notices.extend(told);
    }

    fn persist(&mut self, persist: Option<bool>) {
        self.state.is_persistent = persist.unwrap_or(self.state.is_persistent);
    }

    fn count(&mut self) {
        self.state.generation = self.state.generation.wrapping_add(1);
    }
}

impl Current {
    fn fits(self, before: Option<u64>, key: u64) -> bool {
        match self {
            Self::Is(expected) => before.unwrap_or(0) == expected,
            Self::Ignored => true,
            Self::Registered => before.is_some(),
            Self::NoneOrNew => before.is_none_or(|before| before == key),
        }
    }
}
