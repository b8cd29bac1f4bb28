//! The commands in flight of one session: a fixed table of slots, found by tag.
//!
//! Everything is allocated when the session begins; nothing afterwards.

use std::rc::Rc;

use rustc_hash::FxHashMap;
use wire::iscsi::{Bhs, NO_TAG};
use zerocopy::big_endian::U32;

use super::connection::Connection;
use super::options::IMMEDIATE_TASKS;
use super::task::{Phase, Task};
use super::window::{Order, Window};

/// The slot's part of a transfer tag.
const INDEX_BITS: u32 = 10;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// One use of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskRef {
    pub index: u16,
    pub generation: u32,
}

/// What becomes of a command that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It is its turn.
    Now(TaskRef),
    /// It waits for others.
    Early(TaskRef),
    /// Not in the window, or there already: not a word about it.
    Ignored,
    /// Its tag is in use; its number was taken when it was its turn.
    TagInUse,
    /// Too many immediate commands.
    TooMany,
}

/// The table of one session, and its window.
#[derive(Debug)]
pub(super) struct TaskTable {
    tasks: Vec<Task>,
    free: Vec<u16>,
    by_itt: FxHashMap<u32, u16>,
    pub window: Window,
    /// Numbered commands that were delivered and are not finished.
    busy: u16,
    immediate: u16,
    early: u16,
    delivered: u64,
    last_ttt: u32,
}

impl TaskTable {
    /// A table for a window of `depth` commands from number `first` on.
    pub fn new(first: u32, depth: u16) -> Self {
        let count = depth + IMMEDIATE_TASKS;
        let mut by_itt = FxHashMap::default();
        // Twice the slots: the map then reuses deleted places and never grows.
        by_itt.reserve(2 * usize::from(count));
        Self {
            tasks: (0..count).map(|_| Task::empty(0)).collect(),
            free: (0..count).rev().collect(),
            by_itt,
            window: Window::new(first, depth),
            busy: 0,
            immediate: 0,
            early: 0,
            delivered: 0,
            last_ttt: 0,
        }
    }

    /// MaxCmdSN.
    pub fn max_cmd_sn(&self) -> u32 {
        self.window.max(self.busy)
    }

    /// Slots in use.
    pub fn in_flight(&self) -> usize {
        self.tasks.len() - self.free.len()
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.tasks.len()
    }

    /// Enters a command. `cmd_sn` is none for an immediate one.
    pub fn admit(
        &mut self,
        header: &Bhs,
        cmd_sn: Option<u32>,
        connection: &Rc<Connection>,
    ) -> Admitted {
        let order = match cmd_sn {
            None if self.immediate >= IMMEDIATE_TASKS => return Admitted::TooMany,
            None => Order::Next,
            Some(number) => self.window.judge(number, self.busy),
        };
        if order == Order::Outside || (order == Order::Early && self.find_early(cmd_sn).is_some()) {
            return Admitted::Ignored;
        }
        if self.by_itt.contains_key(&header.itt.get()) {
            if order == Order::Next && cmd_sn.is_some() {
                self.window.advance();
            }
            return Admitted::TagInUse;
        }
        // The window leaves a slot for every number in it.
        let Some(index) = self.free.pop() else {
            return Admitted::TooMany;
        };
        self.by_itt.insert(header.itt.get(), index);
        let task = &mut self.tasks[usize::from(index)];
        let generation = task.generation.wrapping_add(1);
        *task = Task {
            phase: Phase::Early,
            header: *header,
            connection: Some(Rc::clone(connection)),
            is_numbered: cmd_sn.is_some(),
            progress: reactor::now(),
            ..Task::empty(generation)
        };
        let entered = TaskRef { index, generation };
        self.early += 1;
        match order {
            Order::Next => {
                self.deliver(index);
                Admitted::Now(entered)
            }
            _ => Admitted::Early(entered),
        }
    }

    /// It is the turn of a command: it is early no longer.
    fn deliver(&mut self, index: u16) {
        self.delivered += 1;
        self.early -= 1;
        let task = &mut self.tasks[usize::from(index)];
        task.order = self.delivered;
        task.phase = Phase::Receiving;
        if task.is_numbered {
            self.window.advance();
            self.busy += 1;
        } else {
            self.immediate += 1;
        }
    }

    /// The next early command whose turn it is now.
    pub fn next_early(&mut self) -> Option<u16> {
        if self.early == 0 {
            return None;
        }
        let index = self.find_early(Some(self.window.expected()))?;
        self.deliver(index);
        Some(index)
    }

    fn find_early(&self, cmd_sn: Option<u32>) -> Option<u16> {
        if self.early == 0 {
            return None;
        }
        let number = cmd_sn?;
        let found = self.tasks.iter().position(|task| {
            task.phase == Phase::Early && task.is_numbered && number_of(&task.header) == number
        });
        found.map(|index| index as u16)
    }

    /// The early command with this number.
    pub fn early_at(&self, cmd_sn: u32) -> Option<u16> {
        self.find_early(Some(cmd_sn))
    }

    /// The number of an early command is all that is left of it: nothing happens at its turn.
    pub fn make_void(&mut self, index: u16) {
        let task = &mut self.tasks[usize::from(index)];
        self.by_itt.remove(&task.header.itt.get());
        let number = number_of(&task.header);
        let generation = task.generation.wrapping_add(1);
        *task = Task {
            phase: Phase::Early,
            header: void_header(number),
            is_numbered: true,
            ..Task::empty(generation)
        };
    }

    /// Takes a number that has not come yet as received. False when it is not in the window.
    pub fn skip(&mut self, cmd_sn: u32) -> bool {
        match self.window.judge(cmd_sn, self.busy) {
            Order::Outside => false,
            Order::Next => {
                self.window.advance();
                true
            }
            Order::Early => {
                let Some(index) = self.free.pop() else {
                    return false;
                };
                let task = &mut self.tasks[usize::from(index)];
                let generation = task.generation.wrapping_add(1);
                *task = Task {
                    phase: Phase::Early,
                    header: void_header(cmd_sn),
                    is_numbered: true,
                    ..Task::empty(generation)
                };
                self.early += 1;
                true
            }
        }
    }

    /// A slot.
    pub fn task(&self, index: u16) -> &Task {
        &self.tasks[usize::from(index)]
    }

    /// A slot, to change.
    pub fn task_mut(&mut self, index: u16) -> &mut Task {
        &mut self.tasks[usize::from(index)]
    }

    /// The current use of a slot.
    pub fn reference(&self, index: u16) -> TaskRef {
        TaskRef {
            index,
            generation: self.task(index).generation,
        }
    }

    /// The task, unless its slot was freed since.
    pub fn live(&mut self, task: TaskRef) -> Option<&mut Task> {
        let slot = self.tasks.get_mut(usize::from(task.index))?;
        (slot.phase != Phase::Free && slot.generation == task.generation).then_some(slot)
    }

    /// The slot of the command with this tag.
    pub fn find(&self, itt: u32) -> Option<u16> {
        self.by_itt.get(&itt).copied()
    }

    /// A transfer tag for a slot, that was not used for a long time.
    pub fn new_ttt(&mut self, index: u16) -> u32 {
        self.last_ttt = self.last_ttt.wrapping_add(1);
        let ttt = self.last_ttt << INDEX_BITS | u32::from(index);
        debug_assert_ne!(ttt, NO_TAG, "there is no slot 1023");
        ttt
    }

    /// The slot that waits for data under this tag.
    pub fn by_ttt(&self, ttt: u32) -> Option<u16> {
        let index = (ttt & INDEX_MASK) as u16;
        let task = self.tasks.get(usize::from(index))?;
        task.has_open(ttt).then_some(index)
    }

    /// The command is over: frees its slot.
    pub fn retire(&mut self, index: u16) {
        let task = &mut self.tasks[usize::from(index)];
        match std::mem::take(&mut task.phase) {
            Phase::Free => return,
            Phase::Early => self.early -= 1,
            _ if task.is_numbered => self.busy -= 1,
            _ => self.immediate -= 1,
        }
        self.by_itt.remove(&task.header.itt.get());
        task.connection = None;
        task.plan = None;
        task.fault = None;
        task.data = None;
        task.open_count = 0;
        self.free.push(index);
    }

    /// Slots in use.
    pub fn used(&self) -> impl Iterator<Item = (u16, &Task)> {
        let all = self.tasks.iter().enumerate();
        all.map(|(index, task)| (index as u16, task))
            .filter(|(_, task)| task.phase != Phase::Free)
    }

    /// The first slot in use from `from` on.
    pub fn next_used(&self, from: u16) -> Option<u16> {
        let rest = self.tasks.get(usize::from(from)..)?;
        let found = rest.iter().position(|task| task.phase != Phase::Free)?;
        Some(from + found as u16)
    }
}

/// Stands for a command that is not to be carried out.
fn void_header(cmd_sn: u32) -> Bhs {
    let mut header = Bhs::zeroed();
    header.itt = U32::new(NO_TAG);
    header.specific20[4..8].copy_from_slice(&cmd_sn.to_be_bytes());
    header
}

/// CmdSN, which lies at one place in all requests that have one.
pub(super) fn number_of(header: &Bhs) -> u32 {
    let [_, _, _, _, a, b, c, d, ..] = header.specific20;
    u32::from_be_bytes([a, b, c, d])
}
