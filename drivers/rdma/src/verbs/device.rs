//! An open device, shared by all cores: its protection domain, its memory regions, its news.
#![expect(unsafe_code, reason = "calls the verbs library; keeps its handles")]

use std::collections::VecDeque;
use std::ffi::{CStr, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use reactor::buf::BufPool;
use reactor::mailbox::Sender;

use super::ffi;
use super::library::{Library, made, outcome};
use super::news::{News, meaning};
use super::regions::{Region, Regions};
use crate::RdmaError;

/// Events of a device that are read at once.
const EVENTS_A_READING: usize = 64;

/// The manager's open device, which all users of the process share. It is never closed, because
/// [`hold_all`] counts as a user for ever; its functions may be called from any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context(pub *mut ffi::Context);

// SAFETY: the library allows calls from any thread, and the device is never closed (above).
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// Limits of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Work requests of one send queue.
    pub send_entries: u32,
    /// Entries of one completion queue.
    pub completion_entries: u32,
    /// Receives of one shared receive queue.
    pub receive_entries: u32,
    /// Parts of one receive.
    pub receive_parts: u32,
    /// Reads of the peer that one pair serves at once.
    pub reads_served: u8,
    /// Reads that one pair has on the way at once.
    pub reads_asked: u8,
}

/// One device, open, with memory registered.
pub struct Device {
    library: &'static Library,
    context: Context,
    domain: *mut ffi::Pd,
    name: String,
    limits: Limits,
    memory: Mutex<Vec<Registered>>,
    readers: Mutex<Vec<Sender<News>>>,
}

// SAFETY: the library allows calls from any thread; what is ours is behind locks.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// A pool that is registered. It stays mapped until it is not any more.
struct Registered {
    pool: BufPool,
    exposes: bool,
    region: *mut ffi::Mr,
}

impl Device {
    /// Makes a protection domain on a device. Errors: what the system says.
    pub fn open(library: &'static Library, context: Context) -> io::Result<Device> {
        let limits = limits(library, context)?;
        set_non_blocking(async_fd(&context))?;
        // SAFETY: an open device.
        let domain = made(unsafe { (library.alloc_pd)(context.0) })?;
        Ok(Device {
            library,
            context,
            domain,
            name: name(library, context),
            limits,
            memory: Mutex::default(),
            readers: Mutex::default(),
        })
    }

    /// The library.
    pub fn library(&self) -> &'static Library {
        self.library
    }

    /// The library's handle.
    pub fn context(&self) -> Context {
        self.context
    }

    /// The protection domain, which is there while this is.
    pub fn domain(&self) -> *mut ffi::Pd {
        self.domain
    }

    /// The kernel's name of it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Registers a pool's memory, once for each kind of access. Takes long: pages are pinned.
    /// Errors: `Memory`.
    pub fn register(&self, pool: &BufPool, exposes: bool) -> Result<(), RdmaError> {
        let (start, len_bytes) = pool.memory();
        let mut memory = lock(&self.memory);
        let is_same = |known: &Registered| known.pool.memory().0 == start;
        if memory
            .iter()
            .any(|known| is_same(known) && known.exposes == exposes)
        {
            return Ok(());
        }
        let access = match exposes {
            true => ffi::ACCESS_LOCAL_WRITE | ffi::ACCESS_REMOTE_READ | ffi::ACCESS_REMOTE_WRITE,
            false => ffi::ACCESS_LOCAL_WRITE,
        };
        // SAFETY: the pool's mapping, which the entry below keeps until it is deregistered. Who may
        // touch which part of it is decided by the buffers that the work requests own.
        let region = unsafe { (self.library.reg_mr)(self.domain, start.cast(), len_bytes, access) };
        let region = made(region).map_err(|error| RdmaError::Memory {
            device: self.name.clone(),
            len_bytes,
            error,
        })?;
        memory.push(Registered {
            pool: pool.clone(),
            exposes,
            region,
        });
        Ok(())
    }

    /// The keys of all memory with one kind of access, as it is registered now.
    pub fn regions(&self, exposes: bool) -> Regions {
        let memory = lock(&self.memory);
        let regions = memory.iter().filter(|known| known.exposes == exposes);
        Regions::new(regions.map(Registered::region).collect())
    }

    /// How many regions are registered, and how many bytes.
    pub fn registered(&self) -> (u64, u64) {
        let memory = lock(&self.memory);
        let bytes = memory.iter().map(|known| known.pool.memory().1 as u64);
        (memory.len() as u64, bytes.sum())
    }

    /// Asks for what happens to the device, for a core that has begun to use it.
    pub fn tell(&self, reader: Sender<News>) {
        lock(&self.readers).push(reader);
    }

    /// A descriptor that is readable when there is news.
    pub fn news_descriptor(&self) -> io::Result<OwnedFd> {
        async_fd(&self.context).try_clone_to_owned()
    }

    /// Takes the news there is and tells all cores. Any core may: each event comes once. Gives how
    /// many there were.
    pub fn spread_news(&self) -> usize {
        let all = self.take_news();
        let mut readers = lock(&self.readers);
        readers.retain(|reader| !reader.is_closed());
        for reader in readers.iter() {
            for news in &all {
                if reader.try_send(*news).is_err() {
                    let device = self.name();
                    tracing::error!(device, ?news, "a core has missed news of a device");
                }
            }
        }
        all.len()
    }

    fn take_news(&self) -> VecDeque<News> {
        let mut news = VecDeque::new();
        while news.len() < EVENTS_A_READING {
            let mut event = MaybeUninit::<ffi::AsyncEvent>::uninit();
            // SAFETY: an open device, whose descriptor does not block; the event is filled in when
            // the call succeeds. An object that it names waits in its destruction until the event
            // is acknowledged, so it is there to be looked at.
            unsafe {
                if (self.library.get_async_event)(self.context.0, event.as_mut_ptr()) != 0 {
                    break;
                }
                let mut event = event.assume_init();
                news.extend(meaning(&event));
                (self.library.ack_async_event)(&mut event);
            }
        }
        news
    }
}

impl Registered {
    fn region(&self) -> Region {
        // SAFETY: registered, and not deregistered before the device is dropped.
        let (local_key, remote_key) = unsafe { ((*self.region).lkey, (*self.region).rkey) };
        let (start, len_bytes) = self.pool.memory();
        Region {
            start: start.addr() as u64,
            len_bytes: len_bytes as u64,
            local_key,
            remote_key,
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut *lock(&self.memory));
        for known in memory {
            // SAFETY: ours; no queue pair of the domain is left, as each holds the device.
            if let Err(error) = outcome(unsafe { (self.library.dereg_mr)(known.region) }) {
                // The card may still reach it, so it must stay what it is.
                tracing::error!(device = self.name, %error, "memory stays registered");
                std::mem::forget(known.pool);
            }
        }
        // SAFETY: ours, and nothing of ours is left in it.
        if let Err(error) = outcome(unsafe { (self.library.dealloc_pd)(self.domain) }) {
            tracing::error!(device = self.name, %error, "a protection domain stays");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All devices there are now.
pub fn all(library: &'static Library) -> Vec<Context> {
    let list = list(library);
    if let Some((array, _)) = list {
        // SAFETY: the array that the call gave. It ends our use of the devices in it; those that
        // are opened stay in use by `hold_all`.
        unsafe { (library.free_devices)(array) };
    }
    list.map(|(_, devices)| devices).unwrap_or_default()
}

/// Counts as a user of all devices for the rest of the process, so that none is closed.
pub fn hold_all(library: &'static Library) {
    list(library);
}

fn list(library: &'static Library) -> Option<(*mut *mut ffi::Context, Vec<Context>)> {
    let mut count: c_int = 0;
    // SAFETY: it fills in the number of entries of the array that it returns.
    unsafe {
        let array = (library.get_devices)(&mut count);
        if array.is_null() {
            return None;
        }
        let devices = (0..usize::try_from(count).unwrap_or(0)).map(|at| Context(*array.add(at)));
        let devices = devices.collect();
        Some((array, devices))
    }
}

fn name(library: &'static Library, context: Context) -> String {
    // SAFETY: an open device; its name is a string of the library's that ends with a zero.
    unsafe {
        let name = (library.get_device_name)((*context.0).device);
        match name.is_null() {
            true => "unknown".to_owned(),
            false => CStr::from_ptr(name).to_string_lossy().into_owned(),
        }
    }
}

fn limits(library: &'static Library, context: Context) -> io::Result<Limits> {
    let mut attributes = MaybeUninit::<ffi::DeviceAttr>::zeroed();
    // SAFETY: an open device; the call fills in all of it, and zeroes are valid numbers too.
    let attributes = unsafe {
        outcome((library.query_device)(context.0, attributes.as_mut_ptr()))?;
        attributes.assume_init()
    };
    let number = |value: c_int| u32::try_from(value).unwrap_or(0);
    let depth = |value: c_int| u8::try_from(value.max(0)).unwrap_or(u8::MAX);
    Ok(Limits {
        send_entries: number(attributes.max_qp_wr),
        completion_entries: number(attributes.max_cqe),
        receive_entries: number(attributes.max_srq_wr),
        receive_parts: number(attributes.max_srq_sge),
        reads_served: depth(attributes.max_qp_rd_atom),
        reads_asked: depth(attributes.max_qp_init_rd_atom),
    })
}

/// The descriptor on which a device tells its news.
fn async_fd(context: &Context) -> BorrowedFd<'_> {
    // SAFETY: the device stays open, and its descriptor with it.
    unsafe { BorrowedFd::borrow_raw((*context.0).async_fd) }
}

/// Lets reads of a descriptor that belongs to a library return at once.
pub fn set_non_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
