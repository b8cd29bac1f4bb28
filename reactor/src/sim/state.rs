//! The part of a world that programs reach through their backend: clock, event queue, disks,
//! network, trace. The executors themselves live in `World`, one level up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::crash::Crash;
use super::disk::{Cx, Disk};
use super::net::{Net, Waiter};
use super::options::WorldOptions;
use super::prng::Prng;
use super::trace::{EventKind, FaultKind, Log};
use crate::op::OpKey;

/// Handles that programs dropped; closed at the next opportunity, because a handle may be dropped
/// while the state is borrowed.
pub(crate) type Graveyard = Arc<Mutex<Vec<u64>>>;

/// How an operation ended, on its way to the core that asked.
#[derive(Debug)]
pub(crate) enum Due {
    Done,
    Failed(i32),
    Bytes(usize),
    Data(Vec<u8>),
    Accepted(u64, SocketAddr),
}

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Happening {
    Turn {
        core: usize,
    },
    Disk {
        disk: usize,
        id: u64,
        waiter: Waiter,
    },
    Complete {
        waiter: Waiter,
        due: Due,
    },
    Syn {
        socket: u64,
    },
    Pump {
        socket: u64,
    },
    Keepalive {
        socket: u64,
    },
    CrashByChance {
        node: usize,
        incarnation: u64,
    },
    Restart {
        node: usize,
        incarnation: u64,
    },
}

/// A moment in the queue; the second part orders what happens at the same time, by chance.
pub(crate) type Moment = (u64, u64);

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Rc<str>,
    pub(crate) up: bool,
    pub(crate) powered: bool,
    /// Counts starts; what belongs to an older one is dead.
    pub(crate) incarnation: u64,
    pub(crate) crashes: u32,
    /// The world will start it again by itself.
    pub(crate) restart_planned: bool,
    pub(crate) last_crash: Option<Crash>,
    pub(crate) prng: Prng,
    pub(crate) wall_skew_ms: i64,
    pub(crate) crash_points: BTreeMap<&'static str, u64>,
    /// Crash at the n-th visit from now of this point.
    pub(crate) armed: Vec<(String, u64, Crash)>,
}

#[derive(Debug)]
pub(crate) struct CoreState {
    pub(crate) node: usize,
    pub(crate) alive: bool,
    pub(crate) inbox: Vec<(OpKey, Due)>,
    /// A core does one thing at a time: no turn before this.
    pub(crate) busy_until_ns: u64,
    turn: Option<Moment>,
}

impl CoreState {
    pub(crate) fn new(node: usize) -> Self {
        Self {
            node,
            alive: true,
            inbox: Vec::new(),
            busy_until_ns: 0,
            turn: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) node: usize,
    pub(crate) disk: usize,
    pub(crate) read_only: bool,
}

/// A piece of memory that a disk was given to fill or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskBuffer {
    /// To write it, and not to fill it.
    pub is_write: bool,
    /// Where it lies.
    pub address: usize,
    /// How long it is.
    pub len_bytes: usize,
}

pub(crate) struct State {
    pub(crate) seed: u64,
    pub(crate) options: WorldOptions,
    pub(crate) now_ns: u64,
    pub(crate) log: Log,
    pub(crate) disks: Vec<Disk>,
    pub(crate) files: BTreeMap<u64, OpenFile>,
    pub(crate) net: Net,
    pub(crate) nodes: Vec<Node>,
    pub(crate) cores: Vec<CoreState>,
    pub(crate) cpu_prng: Prng,
    pub(crate) disk_prng: Prng,
    pub(crate) net_prng: Prng,
    pub(crate) crash_prng: Prng,
    pub(crate) graveyard: Graveyard,
    /// One entry for each extra holder of a socket (a detached one has two for a while): it closes
    /// with the last.
    pub(crate) shared: Vec<u64>,
    /// What disks were given to move, once somebody wants to know.
    pub(crate) followed: Option<Vec<DiskBuffer>>,
    pub(crate) created_bytes: u64,
    pub(crate) crashes_total: u32,
    pub(crate) chance_crashes: u32,
    tie_prng: Prng,
    queue: BTreeMap<Moment, Happening>,
    next_id: u64,
}

impl State {
    pub(crate) fn new(seed: u64, options: WorldOptions) -> Self {
        let root = Prng::new(seed);
        Self {
            seed,
            now_ns: 0,
            log: Log::new(seed, options.verbose),
            disks: Vec::new(),
            files: BTreeMap::new(),
            net: Net::new(options.net.clone()),
            nodes: Vec::new(),
            cores: Vec::new(),
            cpu_prng: root.fork(1),
            disk_prng: root.fork(2),
            net_prng: root.fork(3),
            crash_prng: root.fork(4),
            tie_prng: root.fork(5),
            graveyard: Graveyard::default(),
            shared: Vec::new(),
            followed: None,
            created_bytes: 0,
            crashes_total: 0,
            chance_crashes: 0,
            queue: BTreeMap::new(),
            next_id: 1,
            options,
        }
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn add_node(&mut self, name: &str) -> usize {
        if let Some(index) = self.nodes.iter().position(|node| &*node.name == name) {
            return index;
        }
        let index = self.nodes.len();
        self.nodes.push(Node {
            name: name.into(),
            up: false,
            powered: false,
            incarnation: 0,
            crashes: 0,
            restart_planned: false,
            last_crash: None,
            prng: Prng::new(self.seed).fork(1_000 + index as u64),
            wall_skew_ms: 0,
            crash_points: BTreeMap::new(),
            armed: Vec::new(),
        });
        index
    }

    pub(crate) fn node_name(&self, node: usize) -> Rc<str> {
        self.nodes[node].name.clone()
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node_is_powered(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.powered)
    }

    pub(crate) fn core_node(&self, core: usize) -> usize {
        self.cores[core].node
    }

    pub(crate) fn trace(&mut self, kind: EventKind, subject: &str, numbers: [u64; 3]) {
        self.log.event(self.now_ns, kind, subject, numbers);
    }

    pub(crate) fn fault(&mut self, kind: FaultKind, subject: &str, at: (u64, u64)) {
        self.log.fault(self.now_ns, kind, subject, at);
    }

    /// Runs `f` on a disk with what it needs of the world.
    pub(crate) fn with_disk<R>(
        &mut self,
        disk: usize,
        f: impl FnOnce(&mut Disk, &mut Cx<'_>) -> R,
    ) -> R {
        let now_ns = self.now_ns;
        let mut cx = Cx {
            now_ns,
            prng: &mut self.disk_prng,
            log: &mut self.log,
        };
        f(&mut self.disks[disk], &mut cx)
    }

    pub(crate) fn schedule(&mut self, at_ns: u64, happening: Happening) -> Moment {
        let id = self.new_id();
        // Random first, then unique: what happens at the same time happens in random order.
        let tie = (self.tie_prng.next_u64() << 40) | (id & 0xFF_FFFF_FFFF);
        let moment = (at_ns.max(self.now_ns), tie);
        self.queue.insert(moment, happening);
        moment
    }

    pub(crate) fn next_event_ns(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((at_ns, _), _)| *at_ns)
    }

    /// The next thing to happen; the clock jumps to it.
    pub(crate) fn pop_event(&mut self) -> Option<Happening> {
        let ((at_ns, _), happening) = self.queue.pop_first()?;
        debug_assert!(at_ns >= self.now_ns, "time went backwards");
        self.now_ns = at_ns;
        if let Happening::Turn { core } = happening {
            self.cores[core].turn = None;
        }
        Some(happening)
    }

    /// Whether a turn of the core comes within the time that waking it would take.
    pub(crate) fn has_turn(&self, core: usize) -> bool {
        let soon_ns = self.now_ns + self.options.cpu.wake_ns;
        self.cores[core]
            .turn
            .is_some_and(|(at_ns, _)| at_ns <= soon_ns)
    }

    /// Makes sure the core has a turn no later than `at_ns`.
    pub(crate) fn turn_at(&mut self, core: usize, at_ns: u64) {
        if !self.cores[core].alive {
            return;
        }
        let at_ns = at_ns.max(self.cores[core].busy_until_ns);
        match self.cores[core].turn {
            Some((planned_ns, _)) if planned_ns <= at_ns => return,
            Some(moment) => {
                self.queue.remove(&moment);
            }
            None => {}
        }
        let moment = self.schedule(at_ns, Happening::Turn { core });
        self.cores[core].turn = Some(moment);
    }

    /// Hands a result to the core that waits for it and wakes the core.
    pub(crate) fn complete(&mut self, waiter: Waiter, due: Due) {
        let (core, key) = waiter;
        if !self.cores[core].alive {
            // An accepted connection that nobody will ever take.
            if let Due::Accepted(socket, _) = due {
                self.net_close(socket);
            }
            return;
        }
        self.cores[core].inbox.push((key, due));
        let at_ns = self.now_ns + self.cpu_prng.between(1, self.options.cpu.wake_ns.max(1));
        self.turn_at(core, at_ns);
    }

    /// Closes what programs dropped since the last call.
    pub(crate) fn bury(&mut self) {
        loop {
            let dead: Vec<u64> = {
                let mut graveyard = self
                    .graveyard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *graveyard)
            };
            if dead.is_empty() {
                return;
            }
            for id in dead {
                self.close(id);
            }
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(at) = self.shared.iter().position(|shared| *shared == id) {
            self.shared.swap_remove(at);
        } else if self.files.contains_key(&id) {
            self.close_file(id);
        } else {
            self.net_close(id);
        }
    }

    pub(crate) fn close_file(&mut self, id: u64) {
        let Some(file) = self.files.remove(&id) else {
            return;
        };
        let disk = &mut self.disks[file.disk];
        if disk.locked_by == Some(id) {
            disk.locked_by = None;
        }
        let name = disk.name.clone();
        self.trace(EventKind::Close, &name, [id, 0, 0]);
    }

    /// Handles everything except turns and crashes, which need the executors.
    pub(crate) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Disk { disk, id, waiter } => self.finish_disk_op(disk, id, waiter),
            Happening::Complete { waiter, due } => self.complete(waiter, due),
            Happening::Syn { socket } => self.net_syn(socket),
            Happening::Pump { socket } => self.net_pump(socket),
            Happening::Keepalive { socket } => self.net_keepalive(socket),
            Happening::Turn { .. }
            | Happening::CrashByChance { .. }
            | Happening::Restart { .. } => {}
        }
    }

    fn finish_disk_op(&mut self, disk: usize, id: u64, waiter: Waiter) {
        let Some(done) = self.with_disk(disk, |disk, cx| disk.finish(id, cx)) else {
            return;
        };
        let due = match done.result {
            Err(errno) => Due::Failed(errno),
            Ok(_) if !done.data.is_empty() => Due::Data(done.data),
            Ok(count) => Due::Bytes(count),
        };
        self.complete(waiter, due);
    }
}
