//! What a test does to its world by hand, and what it can see of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::crash::Crash;
use super::disk::{Disk, DiskOptions};
use super::handle::DiskHandle;
use super::state::DiskBuffer;
use super::trace::{EventKind, FaultKind, FaultRecord};
use super::world::World;
use crate::CoreStats;

impl World {
    /// A disk that programs open by `name`. Panics when the name is taken or the options describe
    /// no possible disk.
    pub fn add_disk(&mut self, name: &str, options: DiskOptions) -> DiskHandle {
        let disk = self.state.borrow_mut().add_disk(Disk::new(name, options));
        DiskHandle::new(self.state.clone(), disk)
    }

    /// A disk by name, also one that a program created. Panics when there is none.
    #[must_use]
    pub fn disk(&self, name: &str) -> DiskHandle {
        match self.find_disk(name) {
            Some(disk) => disk,
            None => panic!("no disk {name} in this world"),
        }
    }

    /// A disk by name.
    #[must_use]
    pub fn find_disk(&self, name: &str) -> Option<DiskHandle> {
        let disk = self.state.borrow().disk_index(name)?;
        Some(DiskHandle::new(self.state.clone(), disk))
    }

    /// Makes sure a node of this name exists, and returns the address others reach it at.
    pub fn node(&mut self, name: &str) -> IpAddr {
        let mut state = self.state.borrow_mut();
        let node = state.add_node(name);
        state.ip_of(node)
    }

    pub(super) fn node_index(&self, name: &str) -> usize {
        let state = self.state.borrow();
        match state.nodes.iter().position(|node| &*node.name == name) {
            Some(index) => index,
            None => panic!("no node {name} in this world"),
        }
    }

    /// Takes a node down now. A node that is already down can still lose power.
    pub fn crash(&mut self, node: &str, crash: Crash) {
        let index = self.node_index(node);
        self.state.borrow_mut().crash_node(index, crash);
        self.tear_down(index);
    }

    /// Crashes the node at the `nth` visit from now (1 = the next) of a crash point.
    pub fn crash_at(&mut self, node: &str, point: &str, nth: u64, crash: Crash) {
        assert!(nth > 0, "nth counts from 1");
        let index = self.node_index(node);
        self.state.borrow_mut().nodes[index]
            .armed
            .push((point.to_owned(), nth, crash));
    }

    /// Whether the node's process runs.
    #[must_use]
    pub fn is_up(&self, node: &str) -> bool {
        self.state.borrow().nodes[self.node_index(node)].up
    }

    /// The counters of each core of a running process, in order; empty when the node is down.
    #[must_use]
    pub fn core_stats(&self, node: &str) -> Vec<Arc<CoreStats>> {
        let node = self.node_index(node);
        let cores = self.running.values().filter(|running| running.node == node);
        cores.map(|running| running.executor.stats()).collect()
    }

    /// How often the node has crashed.
    #[must_use]
    pub fn crashes(&self, node: &str) -> u32 {
        self.state.borrow().nodes[self.node_index(node)].crashes
    }

    /// How the node went down the last time.
    #[must_use]
    pub fn last_crash(&self, node: &str) -> Option<Crash> {
        self.state.borrow().nodes[self.node_index(node)].last_crash
    }

    /// Crash points passed so far and how often: the coverage of a run.
    #[must_use]
    pub fn crash_points(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for node in &self.state.borrow().nodes {
            for (name, visits) in &node.crash_points {
                *all.entry(*name).or_insert(0) += visits;
            }
        }
        all
    }

    /// Nothing passes between two nodes, in either direction.
    pub fn partition(&mut self, a: &str, b: &str) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Nothing passes from one node to another; the other direction works.
    pub fn partition_one_way(&mut self, from: &str, to: &str) {
        let (from, to) = (self.node_index(from), self.node_index(to));
        self.state.borrow_mut().net_set_blocked(from, to, true);
    }

    /// Everything passes between two nodes again; held bytes follow with the next retransmission.
    pub fn heal(&mut self, a: &str, b: &str) {
        let (a, b) = (self.node_index(a), self.node_index(b));
        let mut state = self.state.borrow_mut();
        state.net_set_blocked(a, b, false);
        state.net_set_blocked(b, a, false);
    }

    /// Resets every connection between two nodes. Returns how many there were.
    pub fn drop_connection(&mut self, a: &str, b: &str) -> usize {
        let (a, b) = (self.node_index(a), self.node_index(b));
        self.state.borrow_mut().net_drop_connections(a, b)
    }

    /// Gives the pieces of memory that disks were given since the last call, as far as there is room
    /// to remember them; the first call begins. A test of copies compares them with what a card moved.
    pub fn take_disk_buffers(&mut self) -> Vec<DiskBuffer> {
        let followed = &mut self.state.borrow_mut().followed;
        followed.replace(Vec::new()).unwrap_or_default()
    }

    /// Ends all faults by chance, everywhere, all partitions, and crashes still to come: the second
    /// phase of a test, in which the system has to recover. Damage already done stays.
    pub fn heal_all(&mut self) {
        let mut state = self.state.borrow_mut();
        state.options = state.options.healed();
        state.net.options = state.options.net.clone();
        state.net.blocked.clear();
        for node in &mut state.nodes {
            node.armed.clear();
        }
        for disk in 0..state.disks.len() {
            state.with_disk(disk, |disk, _| disk.heal());
        }
        state.trace(EventKind::Test, "heal all", [0; 3]);
    }

    /// Shifts a node's wall clock; its monotonic clock does not move.
    pub fn set_wall_clock_skew_ms(&mut self, node: &str, skew_ms: i64) {
        let node = self.node_index(node);
        self.state.borrow_mut().nodes[node].wall_skew_ms = skew_ms;
    }

    /// Virtual time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.state.borrow().now_ns)
    }

    /// A hash over everything that happened: equal for equal seeds, options and programs.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state.borrow().log.hash()
    }

    /// The last `count` events, one a line.
    #[must_use]
    pub fn trace_tail(&self, count: usize) -> String {
        self.state.borrow().log.tail(count)
    }

    /// Every fault that was injected, in order (the first 100,000).
    #[must_use]
    pub fn fault_log(&self) -> Vec<FaultRecord> {
        self.state.borrow().log.faults().to_vec()
    }

    /// How many faults of one kind were injected.
    #[must_use]
    pub fn fault_count(&self, kind: FaultKind) -> usize {
        self.state
            .borrow()
            .log
            .faults()
            .iter()
            .filter(|fault| fault.kind == kind)
            .count()
    }

    /// What to read and how to repeat the run: seed, options, faults, tasks, last events.
    #[must_use]
    pub fn report(&self) -> String {
        let Ok(state) = self.state.try_borrow() else {
            return String::from("world in use");
        };
        let mut kinds: BTreeMap<FaultKind, u64> = BTreeMap::new();
        for fault in state.log.faults() {
            *kinds.entry(fault.kind).or_insert(0) += 1;
        }
        let disks = state
            .disks
            .iter()
            .map(|disk| format!("{}: {:?}", disk.name, disk.options));
        let disks: Vec<String> = disks.collect();
        format!(
            "simulated world, seed {}, at {} us, trace hash {:016x}\n{}\n{}\n\
             faults ({}): {kinds:?}\n{}\n\
             last events:\n{}",
            state.seed,
            state.now_ns / 1_000,
            state.log.hash(),
            state.options,
            disks.join("\n"),
            state.log.faults_total(),
            self.snapshots(),
            state.log.tail(60),
        )
    }

    pub(super) fn snapshots(&self) -> String {
        let lines: Vec<String> = self
            .running
            .values()
            .map(|running| {
                let snapshot = running.executor.snapshot();
                let ops: Vec<&str> = snapshot.ops.iter().map(|(_, name)| *name).collect();
                format!(
                    "core {}: tasks {:?} ops {ops:?}",
                    snapshot.core, snapshot.tasks
                )
            })
            .collect();
        lines.join("\n")
    }
}
