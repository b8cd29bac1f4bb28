//! Long random sequences of commands against a model that is written in another way: tables of
//! who has which key, and the standard's sentences as conditions.

use super::*;

/// Hosts by number; key 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    keys: [u64; 4],
    kind: Option<Kind>,
    /// With a type of one holder.
    holder: usize,
    generation: u32,
}

fn shared(kind: Kind) -> bool {
    [
        Kind::WriteExclusiveAllRegistrants,
        Kind::ExclusiveAccessAllRegistrants,
    ]
    .contains(&kind)
}

impl Model {
    fn holds(&self, who: usize) -> bool {
        match self.kind {
            None => false,
            Some(kind) if shared(kind) => self.keys[who] != 0,
            Some(_) => self.holder == who,
        }
    }

    fn drop_unheld(&mut self) {
        let nobody = self.keys == [0; 4];
        let gone = self.kind.is_some_and(|kind| !shared(kind)) && self.keys[self.holder] == 0;
        if nobody || gone {
            self.kind = None;
        }
    }

    /// False when refused.
    fn run(&mut self, who: usize, command: &Command) -> bool {
        let mine = self.keys[who];
        let knows_key = |key: u64| mine != 0 && mine == key;
        match *command {
            Command::Register(given, new) => {
                if given != mine {
                    return false;
                }
                self.set_key(who, new);
            }
            Command::RegisterIgnoring(new) => self.set_key(who, new),
            Command::Reserve(key, kind) => {
                let same = self.holds(who) && self.kind == Some(kind);
                if !knows_key(key) || (self.kind.is_some() && !same) {
                    return false;
                }
                if self.kind.is_none() {
                    (self.kind, self.holder) = (Some(kind), who);
                }
            }
            Command::Release(key, kind) => {
                let wrong = self.holds(who) && self.kind != Some(kind);
                if !knows_key(key) || wrong {
                    return false;
                }
                if self.holds(who) {
                    self.kind = None;
                }
            }
            Command::Clear(key) => {
                if !knows_key(key) {
                    return false;
                }
                (self.keys, self.kind) = ([0; 4], None);
                self.generation += 1;
            }
            Command::Preempt(key, victim, kind) => {
                return knows_key(key) && self.preempt(who, victim, kind);
            }
            Command::Move(key, to, new, leave) => {
                let one = self.kind.is_some_and(|kind| !shared(kind));
                if !knows_key(key) || !one || !self.holds(who) || new == 0 || to == who {
                    return false;
                }
                self.keys[to] = new;
                self.holder = to;
                if leave {
                    self.keys[who] = 0;
                }
                self.generation += 1;
            }
        }
        true
    }

    fn set_key(&mut self, who: usize, new: u64) {
        if self.keys[who] != 0 || new != 0 {
            self.generation += 1;
        }
        self.keys[who] = new;
        self.drop_unheld();
    }

    fn preempt(&mut self, who: usize, victim: u64, kind: Kind) -> bool {
        let all = self.kind.is_some_and(shared);
        let takes = match (self.kind, all) {
            (None, _) => false,
            (_, true) => victim == 0,
            (_, false) => victim == self.keys[self.holder],
        };
        if !takes && (victim == 0 || !self.keys.contains(&victim)) {
            return false;
        }
        for other in 0..4 {
            let is_victim = self.keys[other] == victim || (takes && all);
            if is_victim && !(takes && other == who) {
                self.keys[other] = 0;
            }
        }
        if takes {
            (self.kind, self.holder) = (Some(kind), who);
        }
        self.drop_unheld();
        self.generation += 1;
        true
    }

    fn may(&self, who: usize, access: Access) -> bool {
        use Kind::{WriteExclusive, WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly};
        let Some(kind) = self.kind else { return true };
        let one = [Kind::WriteExclusive, Kind::ExclusiveAccess].contains(&kind);
        let open_to_readers = [
            WriteExclusive,
            WriteExclusiveAllRegistrants,
            WriteExclusiveRegistrantsOnly,
        ];
        (one && self.holder == who)
            || (!one && self.keys[who] != 0)
            || (access == Access::Read && open_to_readers.contains(&kind))
    }
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Register(u64, u64),
    RegisterIgnoring(u64),
    Reserve(u64, Kind),
    Release(u64, Kind),
    Clear(u64),
    Preempt(u64, u64, Kind),
    Move(u64, usize, u64, bool),
}

impl Command {
    /// Few keys, so that they meet; mostly the sender's own, so that much succeeds.
    fn random(prng: &mut reactor::sim::Prng, mine: u64) -> Self {
        let key = |prng: &mut reactor::sim::Prng| prng.below(4);
        let own = |prng: &mut reactor::sim::Prng| match prng.chance_percent(85) {
            true => mine,
            false => prng.below(4),
        };
        let kind = Kind::ALL[prng.index(6)];
        match prng.weighted(&[3, 3, 4, 2, 1, 4, 2]) {
            0 => Self::Register(own(prng), key(prng)),
            1 => Self::RegisterIgnoring(key(prng)),
            2 => Self::Reserve(own(prng), kind),
            3 => Self::Release(own(prng), kind),
            4 => Self::Clear(own(prng)),
            5 => Self::Preempt(own(prng), key(prng), kind),
            _ => Self::Move(own(prng), prng.index(4), key(prng), prng.chance_percent(50)),
        }
    }

    fn action(self) -> Action {
        let register = |current, key| Action::Register {
            current,
            key,
            also: Vec::new(),
            all_ports: false,
            persist: None,
        };
        match self {
            Self::Register(given, new) => register(Current::Is(given), new),
            Self::RegisterIgnoring(new) => register(Current::Ignored, new),
            Self::Reserve(key, kind) => Action::Reserve { key, kind },
            Self::Release(key, kind) => Action::Release {
                key,
                kind: Some(kind),
            },
            Self::Clear(key) => Action::Clear { key },
            Self::Preempt(key, victim, kind) => Action::Preempt {
                key,
                victim,
                kind: Some(kind),
                abort: true,
            },
            Self::Move(key, to, new_key, unregister) => Action::Move {
                key,
                to: hosts()[to].clone(),
                new_key,
                unregister,
                persist: None,
            },
        }
    }
}

fn compare(model: &Model, state: &State) {
    for (who, host) in hosts().iter().enumerate() {
        assert_eq!(state.key_of(host).unwrap_or(0), model.keys[who]);
        assert_eq!(state.is_holder(host), model.holds(who));
        for access in [Access::Read, Access::Write] {
            assert_eq!(
                state.allows(host, access),
                model.may(who, access),
                "{who} {access:?}"
            );
        }
    }
    assert_eq!(state.held().map(|held| held.kind), model.kind);
    assert_eq!(state.generation(), model.generation);
}

/// What must be so of every state, and of what is said of every change.
fn check(before: &State, change: &Change, who: &Identity) {
    let after = &change.state;
    if let Some(Held { kind, holder }) = after.held() {
        assert_eq!(holder.is_none(), kind.is_all_registrants());
        assert!(after.is_used(), "somebody holds it");
        assert!(holder.iter().all(|holder| after.is_registrant(holder)));
    }
    for (told, notice) in &change.notices {
        assert!(told != who, "the sender knows");
        assert!(before.is_registrant(told), "only registrants are told");
        assert_eq!(after.is_registrant(told), *notice == Notice::Released);
    }
    let removed = before.registrants().iter().map(|one| &one.identity);
    let removed = removed.filter(|one| *one != who && !after.is_registrant(one));
    for gone in removed {
        let count = change
            .notices
            .iter()
            .filter(|(told, _)| told == gone)
            .count();
        assert_eq!(count, 1, "who lost its registration is told once");
    }
    let mut kept = after.clone();
    kept.is_persistent = true;
    kept.generation = 0;
    assert_eq!(record::decode(&record::encode(&kept)), Ok(kept));
}

#[test]
fn every_sequence_is_as_the_model_says() {
    let (mut accepted, mut refused, mut reserved) = (0, 0, 0);
    for seed in 0..400 {
        let mut prng = reactor::sim::Prng::new(seed);
        let (mut model, mut state) = (Model::default(), State::default());
        for _ in 0..200 {
            let who = prng.index(4);
            let command = Command::random(&mut prng, model.keys[who]);
            let before = (model.clone(), state.clone());
            let is_accepted = model.run(who, &command);
            let identity = &hosts()[who];
            match apply(&state, identity, &command.action()) {
                Ok(change) => {
                    assert!(
                        is_accepted,
                        "seed {seed}: {who} {command:?} after {before:?}"
                    );
                    check(&state, &change, identity);
                    state = change.state;
                    accepted += 1;
                }
                Err(refusal) => {
                    assert!(
                        !is_accepted,
                        "seed {seed}: {who} {command:?}: {refusal:?} after {before:?}"
                    );
                    model = before.0;
                    refused += 1;
                }
            }
            compare(&model, &state);
            reserved += usize::from(model.kind.is_some());
        }
    }
    // Sequences that go nowhere would prove nothing.
    assert!(accepted > 20_000 && refused > 10_000 && reserved > 20_000);
}
