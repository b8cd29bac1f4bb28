//! Reservations: who may read and write a volume, for SCSI and NVMe hosts alike.
//!
//! One state for each volume, on its home core; both frontends ask it before a command starts.
//! There is one table of registrants, one reservation and one generation, whichever protocol
//! changes them: `state` is what there is, `rules` is what each action makes of it, `record` is
//! how it survives power loss. Here are those who take part, and the order in which a change is
//! made durable, comes into force, and is told.
//!
//! Source: SPC-4 section 5.13 (persistent reservations), SPC-2 (RESERVE, RELEASE), NVM Express
//! base 2.0 section 8.19 (reservations).

mod action;
mod identity;
mod participant;
mod record;
mod rules;
mod state;
#[cfg(test)]
mod tests;

pub use action::{Action, Current, Refusal};
pub use identity::Identity;
pub use participant::{Access, Conflict, Listener, Notice, Participant};
pub use state::{Held, Kind, REGISTRANTS_MAX, Registrant, State};

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::sync::Notify;
use volume::Volume;

use action::Change;

/// How often PREEMPT AND ABORT looks whether aborted commands are settled.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);

/// The reservations of a volume. Lives on the volume's home core.
pub struct Reservations {
    volume: Volume,
    state: RefCell<State>,
    /// Who holds an SPC-2 reservation of the whole unit: the number of a participant.
    unit_holder: Cell<Option<u64>>,
    /// What was kept cannot be read: nobody gets at the medium.
    is_locked: Cell<bool>,
    /// The volume is erased through SCSI: NVMe hosts wait outside.
    is_held: Cell<bool>,
    /// Relative identifiers of the target's ports, for ALL_TG_PT.
    target_ports: RefCell<BTreeSet<u16>>,
    participants: RefCell<Vec<Weak<Participant>>>,
    last_number: Cell<u64>,
    /// One change at a time: the next is judged by what this one made durable.
    is_changing: Cell<bool>,
    changed: Notify,
}

impl Reservations {
    /// What the volume kept of them: everything when they were to persist through power loss, else
    /// nothing.
    ///
    /// What cannot be read locks the volume: every access to the medium conflicts until
    /// [`Reservations::forget`]. The reason is in docs/decisions/0005-shared-reservations.md.
    pub async fn load(volume: Volume) -> Rc<Self> {
        let kept = volume.load_reservations().await;
        let kept = kept.map_err(|error| error.to_string());
        let decoded = kept.and_then(|bytes| record::decode(&bytes).map_err(str::to_owned));
        let is_locked = decoded.is_err();
        if let Err(error) = &decoded {
            tracing::error!(
                volume = %volume.info().name, error,
                "reservations cannot be read: every access conflicts until they are cleared by hand"
            );
        }
        Rc::new(Self {
            volume,
            state: RefCell::new(decoded.unwrap_or_default()),
            unit_holder: Cell::new(None),
            is_locked: Cell::new(is_locked),
            is_held: Cell::new(false),
            target_ports: RefCell::default(),
            participants: RefCell::default(),
            last_number: Cell::new(0),
            is_changing: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// The volume they are for.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// A nexus or controller begins; registrations that its identity had are its own again. It ends
    /// when the participant is dropped, and an SPC-2 reservation of its own with it.
    pub fn attach(
        self: &Rc<Self>,
        identity: Identity,
        listener: Weak<dyn Listener>,
    ) -> Rc<Participant> {
        if let Identity::Scsi { target_port, .. } = &identity {
            self.target_ports.borrow_mut().insert(*target_port);
        }
        let number = self.last_number.get() + 1;
        self.last_number.set(number);
        let participant = Participant::new(identity, number, listener, Rc::clone(self));
        let mut participants = self.participants.borrow_mut();
        participants.push(Rc::downgrade(&participant));
        drop(participants);
        self.judge(&participant);
        participant
    }

    /// Tells which ports the SCSI target has: a registration with ALL_TG_PT is for each of them.
    pub fn offer_target_ports(&self, target_ports: impl IntoIterator<Item = u16>) {
        self.target_ports.borrow_mut().extend(target_ports);
    }

    /// Whether `who` may access the medium now. Cost: one comparison.
    #[inline]
    pub fn check(&self, who: &Participant, access: Access) -> Result<(), Conflict> {
        who.check(access)
    }

    /// What is registered and reserved now. Do not hold it over an `await`.
    pub fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// True when what was kept cannot be read, see [`Reservations::load`].
    pub fn is_locked(&self) -> bool {
        self.is_locked.get()
    }

    /// Keeps NVMe hosts from the medium until what is returned is dropped: a SCSI host has it
    /// erased. SCSI hosts are told by the unit itself why they have to wait. One at a time.
    pub fn hold(self: &Rc<Self>) -> Hold {
        self.is_held.set(true);
        self.judge_all();
        Hold(Rc::clone(self))
    }

    /// True while an SPC-2 reservation is held, by whomever.
    pub fn is_unit_reserved(&self) -> bool {
        self.unit_holder.get().is_some()
    }

    /// Carries out a persistent reservation command of `who`: what it changes is durable (when it
    /// is to persist), in force and told before this returns.
    ///
    /// Errors: see [`Refusal`]; nothing changed then. Cancel: before its turn nothing happened,
    /// later it goes on by itself. Cost: clones the state; with persistence, one publish.
    pub async fn change(
        self: &Rc<Self>,
        who: &Rc<Participant>,
        action: Action,
    ) -> Result<(), Refusal> {
        let turn = self.turn().await;
        let change = self.propose(&who.identity, &action)?;
        let aborted = change.aborted.clone();
        if self.needs_store(&change.state) {
            // A task of its own: what is on the device and what is in force never differ.
            reactor::spawn(turn.store(change)).await?;
        } else {
            self.enforce(change);
            drop(turn);
        }
        self.abort_tasks(&aborted).await;
        Ok(())
    }

    /// Clears everything, also what cannot be read: for an operator, since no host can do it then.
    ///
    /// Errors: `NotStored`; nothing changed then. Hosts that were registered hear of it.
    pub async fn forget(self: &Rc<Self>) -> Result<(), Refusal> {
        let turn = self.turn().await;
        let change = self.state.borrow().forget();
        reactor::spawn(turn.store(change)).await
    }

    fn propose(&self, who: &Identity, action: &Action) -> Result<Change, Refusal> {
        if self.is_locked.get() {
            return Err(Refusal::Locked);
        }
        // SPC-2 reservations and persistent ones exclude each other, for the holder too.
        if self.is_unit_reserved() {
            return Err(Refusal::Conflict);
        }
        let target_ports = self.target_ports.borrow();
        self.state.borrow().apply(who, action, &target_ports)
    }

    async fn turn(self: &Rc<Self>) -> Turn {
        while self.is_changing.replace(true) {
            self.changed.notified().await;
        }
        Turn(Rc::clone(self))
    }

    fn needs_store(&self, next: &State) -> bool {
        record::encode(&self.state.borrow()) != record::encode(next)
    }

    /// From here on the change is in force.
    fn enforce(&self, change: Change) {
        *self.state.borrow_mut() = change.state;
        self.judge_all();
        for (identity, notice) in change.notices {
            for participant in self.participants_of(&identity) {
                participant.notify(notice);
            }
        }
    }

    async fn abort_tasks(&self, identities: &[Identity]) {
        let mut aborted = Vec::new();
        for identity in identities {
            aborted.extend(self.participants_of(identity));
        }
        for participant in &aborted {
            participant.abort_tasks();
        }
        while !aborted.iter().all(|participant| participant.is_settled()) {
            reactor::time::sleep(SETTLE_PAUSE).await;
        }
    }

    fn participants_of(&self, identity: &Identity) -> Vec<Rc<Participant>> {
        let all = self.participants();
        let same = all.into_iter().filter(|other| other.identity == *identity);
        same.collect()
    }

    /// Those who take part now, by age. Cost: a vector.
    pub fn participants(&self) -> Vec<Rc<Participant>> {
        let participants = self.participants.borrow();
        participants.iter().filter_map(Weak::upgrade).collect()
    }

    /// Who has the SPC-2 reservation. By identity: EXTENDED COPY acts on another unit as its nexus.
    fn unit_reserver(&self) -> Option<Identity> {
        let number = self.unit_holder.get()?;
        let all = self.participants();
        let holder = all.iter().find(|one| one.number() == number);
        holder.map(|holder| holder.identity.clone())
    }

    fn judge_all(&self) {
        for participant in self.participants() {
            self.judge(&participant);
        }
    }

    /// Works out what a participant may do, so that its commands need not.
    fn judge(&self, participant: &Participant) {
        let by_unit = self.unit_reserver();
        let by_unit = by_unit.map(|holder| holder == participant.identity);
        let state = self.state.borrow();
        let is_nvme = matches!(participant.identity, Identity::Nvme { .. });
        let is_shut_out = self.is_locked.get() || (self.is_held.get() && is_nvme);
        let may = |access| match (is_shut_out, by_unit) {
            (true, _) => access == Access::Other,
            (false, Some(is_holder)) => is_holder,
            (false, None) => state.allows(&participant.identity, access),
        };
        participant.allow(may);
    }
}

/// SPC-2 reservations of a whole unit. They end with the participant or a reset.
impl Reservations {
    /// RESERVE(6) and RESERVE(10).
    ///
    /// Errors: another holds it, or somebody is registered for persistent reservations (CRH is 0).
    pub fn reserve_unit(&self, who: &Participant) -> Result<(), Conflict> {
        if self.is_locked.get() || self.state.borrow().is_used() {
            return Err(Conflict);
        }
        match self.unit_holder.get() {
            Some(holder) if holder != who.number() => Err(Conflict),
            _ => {
                self.unit_holder.set(Some(who.number()));
                self.judge_all();
                Ok(())
            }
        }
    }

    /// RELEASE(6) and RELEASE(10). Nothing happens when `who` does not hold it.
    ///
    /// Errors: somebody is registered for persistent reservations (CRH is 0).
    pub fn release_unit(&self, who: &Participant) -> Result<(), Conflict> {
        if self.is_locked.get() || self.state.borrow().is_used() {
            return Err(Conflict);
        }
        if self.unit_holder.get() == Some(who.number()) {
            self.reset();
        }
        Ok(())
    }

    /// The unit or the target was reset: an SPC-2 reservation is gone, persistent ones stay.
    pub fn reset(&self) {
        self.unit_holder.set(None);
        self.judge_all();
    }

    fn leave(&self, number: u64) {
        let mut participants = self.participants.borrow_mut();
        participants.retain(|participant| participant.strong_count() != 0);
        drop(participants);
        if self.unit_holder.get() == Some(number) {
            self.reset();
        }
    }
}

/// NVMe hosts are kept from the medium for as long as it lives.
pub struct Hold(Rc<Reservations>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.is_held.set(false);
        self.0.judge_all();
    }
}

/// The right to change them. Ends when it is dropped.
struct Turn(Rc<Reservations>);

impl Turn {
    /// Makes a change durable, then lets it come into force.
    async fn store(self, change: Change) -> Result<(), Refusal> {
        let reservations = &self.0;
        let bytes = record::encode(&change.state);
        let stored = reservations.volume.store_reservations(bytes).await;
        stored.map_err(|error| {
            let volume = &reservations.volume.info().name;
            tracing::warn!(%volume, %error, "a change of reservations could not be made durable");
            Refusal::NotStored { kind: error.kind() }
        })?;
        reservations.is_locked.set(false);
        reservations.enforce(change);
        Ok(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_changing.set(false);
        self.0.changed.notify_all();
    }
}

impl std::fmt::Debug for Reservations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservations")
            .field("volume", &self.volume.info().name)
            .field("state", &self.state.borrow())
            .field("is_locked", &self.is_locked.get())
            .finish_non_exhaustive()
    }
}
