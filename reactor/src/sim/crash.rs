//! How nodes start, crash and restart, as far as disks, network and clock are concerned.

use super::disk::Disk;
use super::state::{CoreState, Happening, State};
use super::trace::{EventKind, FaultKind};

/// How a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crash {
    /// The process dies (kill -9, panic, out of memory). Its kernel and disks live on: completed
    /// writes stay, connections are closed by the kernel.
    Kill,
    /// The node loses power: disk caches empty themselves by the seed, peers hear nothing.
    PowerLoss,
}

/// Carried by the unwinding that ends a program at a crash point.
pub(crate) struct CrashUnwind;

impl State {
    /// A new process on the node: returns the numbers of its cores.
    pub(crate) fn start_node(&mut self, node: usize, core_count: usize) -> Vec<usize> {
        let entry = &mut self.nodes[node];
        assert!(
            !entry.up,
            "node {} is running already: crash it before starting it",
            entry.name
        );
        (entry.up, entry.powered, entry.restart_planned) = (true, true, false);
        entry.incarnation += 1;
        let incarnation = entry.incarnation;
        self.trace(
            EventKind::Start,
            &self.node_name(node),
            [incarnation, core_count as u64, 0],
        );
        let first = self.cores.len();
        self.cores
            .extend((0..core_count).map(|_| CoreState::new(node)));
        self.plan_crash(node, incarnation);
        (first..first + core_count).collect()
    }

    fn plan_crash(&mut self, node: usize, incarnation: u64) {
        let mean_ns = self.options.crash.interval_ns;
        if mean_ns > 0 && self.may_crash_by_chance() {
            let at_ns = self.now_ns + self.crash_prng.between(0, mean_ns * 2);
            self.schedule(at_ns, Happening::CrashByChance { node, incarnation });
        }
    }

    pub(crate) fn may_crash_by_chance(&self) -> bool {
        self.chance_crashes < self.options.crash.crashes_max
    }

    /// Kill or power loss, drawn from the options.
    pub(crate) fn draw_crash(&mut self) -> Crash {
        self.chance_crashes += 1;
        let percent = self.options.crash.power_loss_percent;
        if self.crash_prng.chance_percent(percent) {
            Crash::PowerLoss
        } else {
            Crash::Kill
        }
    }

    /// Counts the visit; says whether the node crashes here.
    pub(crate) fn visit_crash_point(&mut self, node: usize, name: &'static str) -> Option<Crash> {
        let visits = self.nodes[node].crash_points.entry(name).or_insert(0);
        *visits += 1;
        let visit = *visits;
        let crash = self.armed_crash(node, name).or_else(|| {
            let taken = self.may_crash_by_chance()
                && self.crash_prng.chance_ppm(self.options.crash.point_ppm);
            taken.then(|| self.draw_crash())
        });
        let subject = format!("{} {name}", self.nodes[node].name);
        self.trace(
            EventKind::CrashPoint,
            &subject,
            [visit, u64::from(crash.is_some()), 0],
        );
        crash
    }

    fn armed_crash(&mut self, node: usize, name: &str) -> Option<Crash> {
        let armed = &mut self.nodes[node].armed;
        let at = armed.iter().position(|(point, ..)| point == name)?;
        armed[at].1 = armed[at].1.saturating_sub(1);
        (armed[at].1 == 0).then(|| armed.remove(at).2)
    }

    /// Everything of the node that is not code: its disks, sockets, files and cores.
    pub(crate) fn crash_node(&mut self, node: usize, crash: Crash) {
        let entry = &mut self.nodes[node];
        let was_up = entry.up;
        entry.crashes += 1;
        entry.last_crash = Some(crash);
        let (incarnation, power) = (entry.incarnation, crash == Crash::PowerLoss);
        self.crashes_total += 1;
        let name = self.node_name(node);
        self.trace(EventKind::Crash, &name, [incarnation, u64::from(power), 0]);
        let kind = if power {
            FaultKind::PowerLoss
        } else {
            FaultKind::Kill
        };
        self.fault(kind, &name, (0, 0));
        self.stop_node(node, power);
        if let Some(longest_ns) = self.options.crash.restart_ns.filter(|_| was_up) {
            let at_ns = self.now_ns + self.crash_prng.between(0, longest_ns);
            self.nodes[node].restart_planned = true;
            self.schedule(at_ns, Happening::Restart { node, incarnation });
        }
    }

    /// The process ended by itself: like a kill, but nothing went wrong.
    pub(crate) fn exit_node(&mut self, node: usize) {
        self.stop_node(node, false);
    }

    fn stop_node(&mut self, node: usize, power: bool) {
        // What the program dropped before is closed first, as it would have been.
        self.bury();
        self.nodes[node].up = false;
        for core in self.cores.iter_mut().filter(|core| core.node == node) {
            core.alive = false;
            core.inbox = Vec::new();
        }
        for disk in 0..self.disks.len() {
            let attached = self.disks[disk].attached_to == Some(node);
            self.with_disk(disk, |disk, cx| match (power, attached) {
                (true, true) => disk.power_loss(node, cx),
                _ => disk.kill(node, cx),
            });
        }
        let files: Vec<u64> = self
            .files
            .iter()
            .filter(|(_, file)| file.node == node)
            .map(|(id, _)| *id)
            .collect();
        for file in files {
            self.close_file(file);
        }
        if power {
            self.nodes[node].powered = false;
            self.net_power_loss(node);
        } else {
            self.net_kill(node);
        }
    }

    pub(crate) fn disk_index(&self, name: &str) -> Option<usize> {
        self.disks.iter().position(|disk| disk.name == name)
    }

    pub(crate) fn add_disk(&mut self, disk: Disk) -> usize {
        assert!(
            self.disk_index(&disk.name).is_none(),
            "disk {} exists already",
            disk.name
        );
        self.disks.push(disk);
        self.disks.len() - 1
    }
}
