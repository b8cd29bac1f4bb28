//! Identifiers of connections and listeners, each with its queue pair.
#![expect(
    unsafe_code,
    reason = "calls the connection manager's library; keeps its handles"
)]

use std::cell::Cell;
use std::ffi::{c_int, c_uint};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::channel::EventChannel;
use super::device::Context;
use super::ffi;
use super::library::{Library, outcome};

/// Longest word to the peer's application that fits the messages of InfiniBand and RoCE.
pub const PRIVATE_DATA_BYTES: usize = 56;
/// Requests to connect that wait in the kernel.
const BACKLOG: c_int = 1024;
/// How long an address and a route may take to be found.
const RESOLVE_TIMEOUT_MS: c_int = 5000;
/// Retries of the transport; the most there are. For "receiver not ready" 7 means for ever.
const RETRIES: u8 = 7;

/// What a connection is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// For the peer's application; at most [`PRIVATE_DATA_BYTES`].
    pub private_data: &'a [u8],
    /// Reads of the peer that are served at once.
    pub reads_served: u8,
    /// Reads that are on the way to the peer at once.
    pub reads_asked: u8,
}

impl Parameters<'_> {
    fn raw(&self) -> io::Result<ffi::ConnParam> {
        if self.private_data.len() > PRIVATE_DATA_BYTES {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        Ok(ffi::ConnParam {
            private_data: self.private_data.as_ptr().cast(),
            private_data_len: self.private_data.len() as u8,
            responder_resources: self.reads_served,
            initiator_depth: self.reads_asked,
            flow_control: 1,
            retry_count: RETRIES,
            rnr_retry_count: RETRIES,
            srq: 0,
            qp_num: 0,
        })
    }
}

/// What a queue pair is made of.
pub struct PairParts {
    /// Protection domain, of the identifier's device.
    pub domain: *mut ffi::Pd,
    /// Completion queue of both directions, of the same device.
    pub completions: *mut ffi::Cq,
    /// Where receives come from, in the same domain.
    pub receives: *mut ffi::Srq,
    /// Size of the send queue.
    pub send_entries: u32,
    /// Bytes of a message that are wanted to fit into its work request.
    pub inline_bytes: u32,
}

/// The identifier of a connection or listener, with its queue pair. Dropping it destroys both.
pub struct CmId {
    library: &'static Library,
    raw: NonNull<ffi::CmId>,
    pair: Cell<*mut ffi::Qp>,
    channel: Arc<EventChannel>,
}

// SAFETY: the library allows calls from any thread, and one thread at a time has this.
unsafe impl Send for CmId {}

impl CmId {
    /// A fresh one. Errors: what the system says.
    pub fn new(channel: &Arc<EventChannel>) -> io::Result<CmId> {
        let (library, mut raw) = (channel.library(), ptr::null_mut());
        // SAFETY: the channel is there while the identifier is, which holds it.
        outcome(unsafe {
            (library.create_id)(
                channel.raw(),
                &mut raw,
                ptr::null_mut(),
                ffi::PORT_SPACE_TCP,
            )
        })?;
        let raw = NonNull::new(raw).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: a fresh one, on this channel.
        Ok(unsafe { CmId::own(raw, channel) })
    }

    /// Takes over what the library made.
    ///
    /// # Safety
    ///
    /// It has no owner, no queue pair, and its events come through this channel.
    pub unsafe fn own(raw: NonNull<ffi::CmId>, channel: &Arc<EventChannel>) -> CmId {
        CmId {
            library: channel.library(),
            raw,
            pair: Cell::new(ptr::null_mut()),
            channel: channel.clone(),
        }
    }

    /// What events of it are found by, while it is there.
    pub fn key(&self) -> usize {
        self.raw.addr().get()
    }

    /// Its device, once an address has led to one.
    pub fn context(&self) -> Option<Context> {
        // SAFETY: ours.
        let context = unsafe { self.raw.as_ref().verbs };
        (!context.is_null()).then_some(Context(context))
    }

    /// Our end and the other end.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        // SAFETY: ours; the library fills both in, or leaves zeroes.
        let raw = unsafe { self.raw.as_ref() };
        (
            socket_address(&raw.source),
            socket_address(&raw.destination),
        )
    }

    /// Takes an address and listens on it. Errors: what the system says.
    pub fn listen(&self, address: SocketAddr) -> io::Result<()> {
        if address.is_ipv6() {
            // `[::]` means the addresses of its family, as for the other transports.
            let mut only: c_int = 1;
            // SAFETY: ours; the option is an `int`.
            outcome(unsafe {
                (self.library.set_option)(
                    self.raw.as_ptr(),
                    ffi::OPTION_LEVEL_ID,
                    ffi::OPTION_ID_ADDRESS_FAMILY_ONLY,
                    (&raw mut only).cast(),
                    size_of::<c_int>(),
                )
            })?;
        }
        let address = SockaddrStorage::from(address);
        // SAFETY: ours; the address is read during the call, and never written.
        unsafe {
            outcome((self.library.bind_addr)(
                self.raw.as_ptr(),
                address.as_ptr().cast_mut(),
            ))?;
            outcome((self.library.listen)(self.raw.as_ptr(), BACKLOG))
        }
    }

    /// Looks for the device that leads to an address; an event tells the result.
    pub fn resolve_address(&self, address: SocketAddr) -> io::Result<()> {
        let address = SockaddrStorage::from(address);
        // SAFETY: ours; the address is read during the call, and never written.
        outcome(unsafe {
            (self.library.resolve_addr)(
                self.raw.as_ptr(),
                ptr::null_mut(),
                address.as_ptr().cast_mut(),
                RESOLVE_TIMEOUT_MS,
            )
        })
    }

    /// Looks for the route to the address; an event tells the result.
    pub fn resolve_route(&self) -> io::Result<()> {
        // SAFETY: ours.
        outcome(unsafe { (self.library.resolve_route)(self.raw.as_ptr(), RESOLVE_TIMEOUT_MS) })
    }

    /// Makes the queue pair. Gives its number and the bytes that fit into a work request.
    ///
    /// # Safety
    ///
    /// The parts are of this identifier's device, and outlive it.
    pub unsafe fn make_pair(&self, parts: &PairParts) -> io::Result<(u32, u32)> {
        let mut attributes = ffi::QpInitAttr {
            qp_context: ptr::null_mut(),
            send_cq: parts.completions,
            recv_cq: parts.completions,
            srq: parts.receives,
            max_send_wr: parts.send_entries,
            max_recv_wr: 0,
            max_send_sge: 1,
            max_recv_sge: 0,
            max_inline_data: parts.inline_bytes,
            qp_type: ffi::QP_TYPE_RC,
            sq_sig_all: 0,
        };
        // SAFETY: ours, and what the caller promises.
        unsafe {
            let made = (self.library.create_qp)(self.raw.as_ptr(), parts.domain, &mut attributes);
            outcome(made)?;
            let pair = self.raw.as_ref().qp;
            self.pair.set(pair);
            Ok(((*pair).qp_num, attributes.max_inline_data))
        }
    }

    /// The queue pair; null when there is none.
    pub fn pair(&self) -> *mut ffi::Qp {
        self.pair.get()
    }

    /// Destroys the queue pair: when this succeeds the card touches nothing of it any more.
    pub fn destroy_pair(&self) -> io::Result<()> {
        let pair = self.pair.get();
        if pair.is_null() {
            return Ok(());
        }
        // SAFETY: ours. The library must not find a queue pair that is gone.
        unsafe {
            outcome((self.library.destroy_qp)(pair))?;
            (*self.raw.as_ptr()).qp = ptr::null_mut();
        }
        self.pair.set(ptr::null_mut());
        Ok(())
    }

    /// Asks the peer for a connection; an event tells the answer.
    pub fn connect(&self, parameters: &Parameters<'_>) -> io::Result<()> {
        let mut raw = parameters.raw()?;
        // SAFETY: ours; the parameters and the bytes they point to are copied.
        outcome(unsafe { (self.library.connect)(self.raw.as_ptr(), &mut raw) })
    }

    /// Accepts a request; an event tells when the connection stands.
    pub fn accept(&self, parameters: &Parameters<'_>) -> io::Result<()> {
        let mut raw = parameters.raw()?;
        // SAFETY: ours; the parameters and the bytes they point to are copied.
        outcome(unsafe { (self.library.accept)(self.raw.as_ptr(), &mut raw) })
    }

    /// Refuses a request. Fails when the peer is gone already, which is just as well.
    pub fn reject(&self, private_data: &[u8]) -> io::Result<()> {
        let said = private_data
            .get(..PRIVATE_DATA_BYTES)
            .unwrap_or(private_data);
        let len = said.len() as u8;
        // SAFETY: ours; the bytes are copied.
        outcome(unsafe { (self.library.reject)(self.raw.as_ptr(), said.as_ptr().cast(), len) })
    }

    /// Ends the connection: the peer is told, and all work of the queue pair is flushed. Where
    /// there is none (any more) only the work is flushed.
    pub fn disconnect(&self) {
        // SAFETY: ours.
        if unsafe { (self.library.disconnect)(self.raw.as_ptr()) } != 0 {
            self.flush();
        }
    }

    /// Puts the queue pair in its error state, in which all work comes back.
    fn flush(&self) {
        let pair = self.pair.get();
        let mut attributes = ffi::QpAttr {
            qp_state: ffi::QP_STATE_ERROR,
            unused: [0; 35],
        };
        if pair.is_null() {
            return;
        }
        // SAFETY: ours; only the state is looked at.
        let result = unsafe { (self.library.modify_qp)(pair, &mut attributes, ffi::QP_ATTR_STATE) };
        if let Err(error) = outcome(result) {
            tracing::warn!(%error, "a queue pair cannot be put in its error state");
        }
    }

    /// Tells the connection manager that the peer talks already.
    pub fn notify_talks(&self) {
        let event: c_uint = ffi::ASYNC_COMMUNICATION_ESTABLISHED;
        // SAFETY: ours. It fails when the manager knows already.
        unsafe { (self.library.notify)(self.raw.as_ptr(), event) };
    }

    /// Goes to the channel of another core, with the events that wait. Errors: what the system says.
    pub fn migrate(&mut self, channel: &Arc<EventChannel>) -> io::Result<()> {
        // SAFETY: ours; both channels are there. No event of it is held unacknowledged.
        outcome(unsafe { (self.library.migrate_id)(self.raw.as_ptr(), channel.raw()) })?;
        self.channel = channel.clone();
        Ok(())
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        if let Err(error) = self.destroy_pair() {
            // The manager would go on to use it: both stay.
            tracing::error!(%error, "a queue pair cannot be destroyed: it stays");
            std::mem::forget(self.channel.clone());
            return;
        }
        // SAFETY: ours. It waits for events that another core is just reading to be acknowledged,
        // which comes at once.
        if let Err(error) = outcome(unsafe { (self.library.destroy_id)(self.raw.as_ptr()) }) {
            tracing::error!(%error, "an identifier of a connection stays");
        }
    }
}

/// The address in the library's form; `0.0.0.0:0` for one of another family.
fn socket_address(address: &ffi::Address) -> SocketAddr {
    let from = ptr::from_ref(address).cast::<libc::sockaddr>();
    let len = size_of::<ffi::Address>() as libc::socklen_t;
    // SAFETY: it has the length of the longest kind of address.
    let storage = unsafe { SockaddrStorage::from_raw(from, Some(len)) };
    let storage = storage.as_ref();
    let v4 = storage.and_then(|s| s.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into())));
    let v6 = storage.and_then(|s| s.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())));
    v4.or(v6)
        .unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["10.0.0.1:4420", "[fe80::1]:4420", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let nix = SockaddrStorage::from(address);
            // SAFETY: zeroes are an address, of no family.
            let mut raw: ffi::Address = unsafe { std::mem::zeroed() };
            // SAFETY: the longest kind of address has room for any.
            unsafe {
                ptr::copy_nonoverlapping(
                    nix.as_ptr().cast::<u8>(),
                    (&raw mut raw).cast::<u8>(),
                    nix.len() as usize,
                );
            }
            assert_eq!(socket_address(&raw), address);
        }
        // SAFETY: as above.
        let nothing = socket_address(&unsafe { std::mem::zeroed() });
        assert_eq!(nothing, "0.0.0.0:0".parse().unwrap());
    }

    #[test]
    fn private_data_that_is_too_long_is_refused() {
        let parameters = |private_data| Parameters {
            private_data,
            reads_served: 3,
            reads_asked: 4,
        };
        let raw = parameters(&[7; PRIVATE_DATA_BYTES]).raw().unwrap();
        assert_eq!(raw.private_data_len, 56);
        assert_eq!((raw.responder_resources, raw.initiator_depth), (3, 4));
        assert_eq!(raw.rnr_retry_count, 7);
        let error = parameters(&[7; PRIVATE_DATA_BYTES + 1])
            .raw()
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
