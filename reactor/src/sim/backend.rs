//! The simulated side of the seam: what one core of one node sees of its world.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::Path;
use std::rc::Rc;
use std::sync::PoisonError;

use super::crash::CrashUnwind;
use super::disk::{Disk, DiskOp, DiskOptions};
use super::state::{DiskBuffer, Due, Graveyard, Happening, OpenFile, State};
use super::trace::{EventKind, FaultKind};
use crate::backend::{Handle, Op, Outcome, SimBackend, SimHandle};
use crate::buf::BufList;
use crate::fs::{FileInfo, OpenOptions};
use crate::op::{Completions, OpKey};
use crate::time::Instant;

/// Simulated monotonic clocks start here, so that "a moment ago" never meets the clock's zero.
pub(crate) const CLOCK_BASE_NS: u64 = 1_000_000_000;

/// 2026-11-01 00:00 UTC, the wall clock of every world at its start.
const WALL_BASE_MS: i64 = 1_793_491_200_000;

/// Direct I/O wants memory aligned to this.
const MEMORY_ALIGN: usize = 512;

/// One core's backend.
pub(crate) struct WorldBackend {
    state: Rc<RefCell<State>>,
    node: usize,
    core: usize,
}

/// A file, listener or connection of a world; closes when dropped.
struct Grip {
    id: u64,
    graveyard: Graveyard,
}

impl SimHandle for Grip {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        self.graveyard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.id);
    }
}

impl WorldBackend {
    pub(crate) fn new(state: Rc<RefCell<State>>, node: usize, core: usize) -> Self {
        Self { state, node, core }
    }

    /// Every access closes first what was dropped since the last one. `None` once the node has
    /// crashed: destructors may still run, the world no longer listens.
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Option<R> {
        let mut state = self.state.borrow_mut();
        state.bury();
        state.cores[self.core].alive.then(|| f(&mut state))
    }

    fn with_io<R>(&self, f: impl FnOnce(&mut State) -> io::Result<R>) -> io::Result<R> {
        self.with(f).unwrap_or_else(|| Err(error(libc::EIO)))
    }

    fn grip(&self, id: u64) -> Handle {
        let graveyard = self.state.borrow().graveyard.clone();
        Handle::sim(Box::new(Grip { id, graveyard }))
    }
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl SimBackend for WorldBackend {
    fn now(&mut self) -> Instant {
        Instant::from_nanos(CLOCK_BASE_NS + self.state.borrow().now_ns)
    }

    fn wall_clock_ms(&mut self) -> u64 {
        let state = self.state.borrow();
        let passed_ms = i64::try_from(state.now_ns / 1_000_000).unwrap_or(i64::MAX);
        let now_ms = WALL_BASE_MS + passed_ms + state.nodes[self.node].wall_skew_ms;
        u64::try_from(now_ms).unwrap_or(0)
    }

    fn fill_random(&mut self, bytes: &mut [u8]) {
        self.state.borrow_mut().nodes[self.node].prng.fill(bytes);
    }

    fn pick_ready(&mut self, count: usize) -> usize {
        let mut state = self.state.borrow_mut();
        let percent = state.options.cpu.shuffle_percent;
        let shuffled = count > 1 && state.cpu_prng.chance_percent(percent);
        if shuffled {
            state.cpu_prng.index(count)
        } else {
            0
        }
    }

    fn crash_point(&mut self, name: &'static str) {
        let node = self.node;
        let crash = self.with(|state| {
            let crash = state.visit_crash_point(node, name);
            crash
                .into_iter()
                .for_each(|crash| state.crash_node(node, crash));
            crash
        });
        // No panic hook runs for this: a crash here is not a bug.
        if crash.flatten().is_some() {
            resume_unwind(Box::new(CrashUnwind));
        }
    }

    fn submit(&mut self, key: OpKey, op: &mut Op) {
        let waiter = (self.core, key);
        self.with(|state| state.submit(waiter, op));
    }

    fn cancel(&mut self, key: OpKey) {
        let waiter = (self.core, key);
        self.with(|state| state.net_cancel(waiter));
    }

    fn reap(&mut self, completions: &mut Completions<'_>) {
        let core = self.core;
        let inbox = self.with(|state| {
            let mut inbox = std::mem::take(&mut state.cores[core].inbox);
            state.cpu_prng.shuffle(&mut inbox);
            inbox
        });
        for (key, due) in inbox.unwrap_or_default() {
            let result = match due {
                Due::Done => Ok(Outcome::Done),
                Due::Failed(errno) => Err(error(errno)),
                Due::Bytes(count) => match completions.op_mut(key) {
                    Op::Read { .. } | Op::Write { .. } => Ok(Outcome::Bytes(count)),
                    _ => Ok(Outcome::Done),
                },
                Due::Data(data) => Ok(Outcome::Bytes(fill(completions.op_mut(key), &data))),
                Due::Accepted(socket, peer) => Ok(Outcome::Accepted(self.grip(socket), peer)),
            };
            completions.complete(key, result);
        }
    }

    fn open_file(&mut self, path: &Path, options: &OpenOptions) -> io::Result<(Handle, FileInfo)> {
        let (node, name) = (self.node, path.to_string_lossy());
        let opened = self.with_io(|state| {
            let opened = state.open_file(node, &name, options);
            let errno = opened
                .as_ref()
                .err()
                .and_then(io::Error::raw_os_error)
                .unwrap_or(0);
            let file = opened.as_ref().map_or(0, |(id, _)| *id);
            state.trace(EventKind::Open, &name, [file, errno as u64, 0]);
            opened
        });
        opened.map(|(id, info)| (self.grip(id), info))
    }

    fn bind(&mut self, addr: SocketAddr) -> io::Result<(Handle, SocketAddr)> {
        let node = self.node;
        let (id, bound) = self.with_io(|state| state.net_bind(node, addr))?;
        Ok((self.grip(id), bound))
    }

    fn listen(&mut self, bound: &Handle) -> io::Result<()> {
        self.with_io(|state| state.net_listen(bound.sim_id()))
    }

    fn close_listener(&mut self, listener: &Handle) {
        self.with(|state| state.net_close_listener(listener.sim_id()));
    }

    fn new_socket(&mut self, _addr: SocketAddr) -> io::Result<Handle> {
        let node = self.node;
        let id = self.with_io(|state| Ok(state.net_new_socket(node)))?;
        Ok(self.grip(id))
    }

    fn try_recv(&mut self, socket: &Handle, bytes: &mut [u8]) -> io::Result<usize> {
        self.with_io(|state| state.net_recv(socket.sim_id(), bytes))
    }

    fn try_send(&mut self, socket: &Handle, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with_io(|state| state.net_send(socket.sim_id(), slices))
    }

    fn shutdown(&mut self, socket: &Handle) -> io::Result<()> {
        self.with_io(|state| state.net_shutdown(socket.sim_id()))
    }

    fn peer_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr> {
        self.with_io(|state| state.net_peer_addr(socket.sim_id()))
    }

    fn local_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr> {
        self.with_io(|state| state.net_local_addr(socket.sim_id()))
    }

    fn detach(&mut self, socket: &Handle) -> io::Result<Box<dyn Any + Send>> {
        let id = socket.sim_id();
        self.with_io(|state| {
            state.net_local_addr(id)?;
            state.shared.push(id);
            Ok(Box::new(Grip {
                id,
                graveyard: state.graveyard.clone(),
            }) as Box<dyn Any + Send>)
        })
    }

    fn attach(&mut self, token: Box<dyn Any + Send>) -> io::Result<Handle> {
        let Ok(grip) = token.downcast::<Grip>() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Handle::sim(grip))
    }
}

fn fill(op: &mut Op, data: &[u8]) -> usize {
    match op {
        Op::Read { list, skip, .. } => list.copy_in(*skip, data),
        other => panic!("read data arrived for a {} operation", other.name()),
    }
}

/// The bytes a write puts on the disk.
fn gather(list: &BufList, skip: usize) -> Vec<u8> {
    let mut data = vec![0; list.len_bytes().saturating_sub(skip)];
    list.copy_out(skip, &mut data);
    data
}

/// What O_DIRECT demands of memory; only the alignment of addresses is looked at.
fn is_aligned(list: &BufList) -> bool {
    list.iter().all(|buf| {
        (buf.as_ptr() as usize).is_multiple_of(MEMORY_ALIGN)
            && buf.len().is_multiple_of(MEMORY_ALIGN)
    })
}

/// Pieces of memory that are remembered at most.
const FOLLOWED_MAX: usize = 1 << 16;

impl State {
    fn follow(&mut self, is_write: bool, list: &BufList) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        let room = FOLLOWED_MAX.saturating_sub(followed.len());
        followed.extend(list.iter().take(room).map(|buf| DiskBuffer {
            is_write,
            address: buf.as_ptr().addr(),
            len_bytes: buf.len(),
        }));
    }

    fn submit(&mut self, waiter: (usize, OpKey), op: &mut Op) {
        match op {
            Op::Read {
                file,
                offset,
                list,
                skip,
            } => {
                self.follow(false, list);
                let len = list.len_bytes().saturating_sub(*skip);
                let read = DiskOp::Read {
                    offset: *offset + *skip as u64,
                    len,
                };
                self.submit_disk(waiter, file.sim_id(), read, is_aligned(list));
            }
            Op::Write {
                file,
                offset,
                list,
                skip,
            } => {
                self.follow(true, list);
                let data = gather(list, *skip);
                let write = DiskOp::Write {
                    offset: *offset + *skip as u64,
                    data,
                };
                self.submit_disk(waiter, file.sim_id(), write, is_aligned(list));
            }
            Op::Sync { file } => self.submit_disk(waiter, file.sim_id(), DiskOp::Sync, true),
            Op::Discard {
                file,
                offset,
                len_bytes,
            } => {
                let discard = DiskOp::Discard {
                    offset: *offset,
                    len: *len_bytes,
                };
                self.submit_disk(waiter, file.sim_id(), discard, true);
            }
            Op::Readable { socket } => self.net_readable(waiter, socket.sim_id()),
            Op::Writable { socket } => self.net_writable(waiter, socket.sim_id()),
            Op::Accept { listener } => self.net_accept(waiter, listener.sim_id()),
            Op::Connect { socket, addr } => self.net_connect(waiter, socket.sim_id(), *addr),
        }
    }

    fn submit_disk(&mut self, waiter: (usize, OpKey), file: u64, op: DiskOp, aligned: bool) {
        let id = self.new_id();
        let node = self.core_node(waiter.0);
        let changes = matches!(op, DiskOp::Write { .. } | DiskOp::Discard { .. });
        let begun = match self.files.get(&file) {
            None => Err(libc::EBADF),
            Some(open) if open.read_only && changes => Err(libc::EBADF),
            Some(_) if !aligned => Err(libc::EINVAL),
            Some(open) => {
                let disk = open.disk;
                self.with_disk(disk, |disk, cx| disk.begin(id, node, op, cx))
                    .map(|at_ns| (disk, at_ns))
            }
        };
        match begun {
            Ok((disk, at_ns)) => {
                self.schedule(at_ns, Happening::Disk { disk, id, waiter });
            }
            Err(errno) => self.complete(waiter, Due::Failed(errno)),
        }
    }

    fn open_file(
        &mut self,
        node: usize,
        name: &str,
        options: &OpenOptions,
    ) -> io::Result<(u64, FileInfo)> {
        let disk = match (self.disk_index(name), options.create_len) {
            (Some(_), Some(_)) => return Err(error(libc::EEXIST)),
            (None, None) => return Err(error(libc::ENOENT)),
            (None, Some(len_bytes)) => self.create_disk(name, len_bytes)?,
            (Some(disk), None) => disk,
        };
        if self.disks[disk].is_gone() {
            self.fault(FaultKind::Gone, name, (0, 0));
            return Err(error(libc::ENODEV));
        }
        let id = self.new_id();
        let entry = &mut self.disks[disk];
        if options.exclusive_lock {
            if entry.locked_by.is_some() {
                return Err(error(libc::EWOULDBLOCK));
            }
            entry.locked_by = Some(id);
        }
        entry.attached_to = Some(node);
        let info = FileInfo {
            len_bytes: entry.options.len_bytes,
            logical_block_bytes: entry.options.logical_block,
            volatile_cache: entry.options.volatile_cache,
            is_block_device: entry.options.block_device,
            supports_discard: entry.options.supports_discard,
            is_direct: true,
            is_memory: false,
            is_polled: false,
            is_passthrough: false,
        };
        self.files.insert(
            id,
            OpenFile {
                node,
                disk,
                read_only: options.read_only,
            },
        );
        Ok((id, info))
    }

    fn create_disk(&mut self, name: &str, len_bytes: u64) -> io::Result<usize> {
        let options = DiskOptions {
            len_bytes,
            block_device: false,
            ..self.options.disk.clone()
        };
        if len_bytes == 0 || !len_bytes.is_multiple_of(u64::from(options.logical_block)) {
            return Err(error(libc::EINVAL));
        }
        let used = self.created_bytes.saturating_add(len_bytes);
        if used > self.options.create_budget_bytes {
            self.fault(FaultKind::Full, name, (0, len_bytes));
            return Err(error(libc::ENOSPC));
        }
        self.created_bytes = used;
        Ok(self.add_disk(Disk::new(name, options)))
    }
}
