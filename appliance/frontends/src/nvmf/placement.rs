//! Which connection moves where: the policy, without the means.
//!
//! The connections of a busy volume spread over cores, those of a quiet one sit on its home core.
//! The engine of a volume never moves, so that what a connection takes along is the work on its
//! socket: the larger part of a request, and the only part that can be anywhere.

/// Where connections may be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On the home core of their volume, or on another core while that one is busy.
    #[default]
    Spread,
    /// On the home core of their volume.
    Home,
}

/// A home core busier than this sends connections away.
const BUSY: f64 = 0.85;
/// A core less busy than this takes connections of others.
const TAKES: f64 = 0.50;
/// A home core less busy than this calls its connections home,
const QUIET: f64 = 0.40;
/// as long as it is then expected to be less busy than this.
const FULL: f64 = 0.70;

/// Shares of a request: the socket's, which goes with the connection, and the engine's.
const SOCKET: f64 = 0.6;
const ENGINE: f64 = 0.4;

/// Another core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OtherCore {
    /// Names it.
    pub core: u16,
    /// Share of its time in which it worked, 0.0 to 1.0.
    pub busy: f64,
}

/// A connection of the home core's volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Names it.
    pub id: u64,
    /// The core it is served by, when that is another.
    pub away: Option<u16>,
    /// What it did since the last look, in any unit that all of them share.
    pub work: u64,
    /// False for one that is moving or could not be moved a short while ago.
    pub can_move: bool,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Stay,
    /// Send a connection to another core.
    Send {
        /// Which.
        id: u64,
        /// Where to.
        core: u16,
    },
    /// Call a connection home.
    Fetch {
        /// Which.
        id: u64,
    },
}

/// What to do for a home core that is `busy`. At most one connection moves at a time; the caller
/// waits long enough in between for the next look to see the effect.
pub fn decide(busy: f64, others: &[OtherCore], connections: &[Candidate]) -> Decision {
    let share = Share::new(busy, connections);
    send(busy, others, connections, share)
        .or_else(|| fetch(busy, connections, share))
        .or_else(|| relieve(busy, others, connections, share))
        .unwrap_or(Decision::Stay)
}

/// What one unit of work on a socket takes of the home core's time.
#[derive(Clone, Copy)]
struct Share(f64);

impl Share {
    fn new(busy: f64, connections: &[Candidate]) -> Self {
        let costs = connections.iter().map(|connection| {
            let socket = if connection.away.is_none() {
                SOCKET
            } else {
                0.0
            };
            connection.work as f64 * (ENGINE + socket)
        });
        let total: f64 = costs.sum();
        Self(if total > 0.0 {
            busy * SOCKET / total
        } else {
            0.0
        })
    }

    fn of(self, connection: &Candidate) -> f64 {
        connection.work as f64 * self.0
    }
}

/// The home core is overloaded: the connection with the most work goes to the least busy core,
/// unless that only turned the situation round.
fn send(
    busy: f64,
    others: &[OtherCore],
    connections: &[Candidate],
    share: Share,
) -> Option<Decision> {
    let least = least_busy(others).filter(|other| other.busy < TAKES && busy > BUSY)?;
    let here = connections
        .iter()
        .filter(|c| c.away.is_none() && c.work > 0);
    if here.clone().count() < 2 {
        return None;
    }
    let fits = |c: &&Candidate| least.busy + share.of(c) < busy - share.of(c);
    let most = here
        .filter(|c| c.can_move)
        .filter(fits)
        .max_by_key(|c| c.work)?;
    Some(Decision::Send {
        id: most.id,
        core: least.core,
    })
}

/// The home core has time: the connection with the least work comes home, if it fits.
fn fetch(busy: f64, connections: &[Candidate], share: Share) -> Option<Decision> {
    let away = connections
        .iter()
        .filter(|c| c.away.is_some() && c.can_move);
    let least = away.min_by_key(|c| c.work)?;
    let fits = busy < QUIET && busy + share.of(least) < FULL;
    fits.then_some(Decision::Fetch { id: least.id })
}

/// A core that serves connections for this one is overloaded, and this one is less so.
fn relieve(
    busy: f64,
    others: &[OtherCore],
    connections: &[Candidate],
    share: Share,
) -> Option<Decision> {
    let busiest = others.iter().max_by(|a, b| a.busy.total_cmp(&b.busy))?;
    if busiest.busy <= BUSY || busy >= TAKES {
        return None;
    }
    let there = connections
        .iter()
        .filter(|c| c.away == Some(busiest.core) && c.can_move);
    let fits = |c: &&Candidate| busy + share.of(c) < busiest.busy - share.of(c);
    let most = there.filter(fits).max_by_key(|c| c.work)?;
    Some(Decision::Fetch { id: most.id })
}

fn least_busy(others: &[OtherCore]) -> Option<&OtherCore> {
    others.iter().min_by(|a, b| a.busy.total_cmp(&b.busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(id: u64, work: u64) -> Candidate {
        Candidate {
            id,
            away: None,
            work,
            can_move: true,
        }
    }

    fn away(id: u64, core: u16, work: u64) -> Candidate {
        Candidate {
            away: Some(core),
            ..here(id, work)
        }
    }

    fn cores(busy: &[f64]) -> Vec<OtherCore> {
        let other = |(index, &busy)| OtherCore {
            core: index as u16 + 1,
            busy,
        };
        busy.iter().enumerate().map(other).collect()
    }

    #[test]
    fn a_busy_core_sends_its_largest_connection_to_the_least_busy_one() {
        let connections = [here(1, 10), here(2, 30), here(3, 20), here(4, 20)];
        let decision = decide(0.95, &cores(&[0.3, 0.1, 0.2]), &connections);
        assert_eq!(decision, Decision::Send { id: 2, core: 2 });
    }

    #[test]
    fn one_that_would_only_turn_the_situation_round_stays() {
        // The first does nearly all: with it the other core would be as busy as this one is.
        let connections = [here(1, 1000), here(2, 10), here(3, 20)];
        let decision = decide(1.0, &cores(&[0.4]), &connections);
        assert_eq!(decision, Decision::Send { id: 3, core: 1 });
        let connections = [here(1, 1000), here(2, 0)];
        assert_eq!(decide(1.0, &cores(&[0.1]), &connections), Decision::Stay);
    }

    #[test]
    fn nobody_goes_where_there_is_no_room_or_no_need() {
        let connections = [here(1, 50), here(2, 50), here(3, 50)];
        assert_eq!(
            decide(0.95, &cores(&[0.6, 0.55]), &connections),
            Decision::Stay
        );
        assert_eq!(decide(0.80, &cores(&[0.0]), &connections), Decision::Stay);
        assert_eq!(decide(0.95, &[], &connections), Decision::Stay);
        assert_eq!(decide(0.95, &cores(&[0.0]), &[]), Decision::Stay);
    }

    #[test]
    fn one_that_cannot_move_now_is_passed_over() {
        let mut connections = [here(1, 50), here(2, 40), here(3, 40)];
        connections[0].can_move = false;
        let decision = decide(0.95, &cores(&[0.0]), &connections);
        assert!(
            matches!(decision, Decision::Send { id: 2 | 3, core: 1 }),
            "{decision:?}"
        );
        let mut back = [away(1, 1, 0)];
        back[0].can_move = false;
        assert_eq!(decide(0.0, &cores(&[0.0]), &back), Decision::Stay);
    }

    #[test]
    fn a_quiet_core_calls_its_connections_home_the_idlest_first() {
        let connections = [away(1, 1, 30), away(2, 1, 0), here(3, 10)];
        let decision = decide(0.2, &cores(&[0.2]), &connections);
        assert_eq!(decision, Decision::Fetch { id: 2 });
        assert_eq!(decide(0.5, &cores(&[0.2]), &connections), Decision::Stay);
    }

    #[test]
    fn a_connection_that_would_fill_the_core_again_stays_away() {
        // All of this core's work is the engine's; the sockets' would be half as much again.
        let connections = [away(1, 1, 100)];
        assert_eq!(decide(0.39, &cores(&[0.6]), &connections), Decision::Stay);
        assert_eq!(
            decide(0.20, &cores(&[0.6]), &connections),
            Decision::Fetch { id: 1 }
        );
    }

    #[test]
    fn an_overloaded_helper_is_relieved() {
        let connections = [away(1, 1, 5), away(2, 1, 10), away(3, 2, 10), here(4, 60)];
        let decision = decide(0.45, &cores(&[0.95, 0.3]), &connections);
        assert_eq!(decision, Decision::Fetch { id: 2 });
        assert_eq!(
            decide(0.6, &cores(&[0.95, 0.3]), &connections),
            Decision::Stay
        );
    }

    #[test]
    fn what_was_sent_is_not_fetched_at_once() {
        // Home was full with four equal connections; after each move it is looked at again.
        let mut connections = [here(1, 10), here(2, 10), here(3, 10), here(4, 10)];
        let (mut home, mut other) = (0.95, 0.0);
        for _ in 0..10 {
            let share = Share::new(home, &connections).of(&connections[0]);
            match decide(home, &cores(&[other]), &connections) {
                Decision::Stay => {}
                Decision::Send { id, .. } => {
                    connections[id as usize - 1].away = Some(1);
                    (home, other) = (home - share, other + share);
                }
                Decision::Fetch { .. } => panic!("back and forth at {home} and {other}"),
            }
        }
        assert!(home < BUSY && other > 0.0, "{home} and {other}");
    }
}
