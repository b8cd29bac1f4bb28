//! Events of the connection manager, copied out of the library's memory.
#![expect(
    unsafe_code,
    reason = "reads an event that lies in the library's memory"
)]

use std::ffi::c_int;
use std::io;
use std::slice;

use super::cm_id::CmId;
use super::ffi;

/// One event.
pub struct Event {
    /// Which identifier it is about; for a request, the listener.
    pub key: usize,
    /// What happened.
    pub signal: Signal,
}

/// What happened to a connection or listener.
pub enum Signal {
    /// The device that leads to the address is known.
    AddressResolved,
    /// The way to the address is known.
    RouteResolved,
    /// Somebody wants to connect.
    Request(Request),
    /// The connection stands; what the other side said comes with it.
    Established(Vec<u8>),
    /// The other side refused, and said why in its words.
    Refused(Vec<u8>),
    /// The address, the route or the connection cannot be had.
    Failed(io::Error),
    /// The other side has ended the connection, or was gone for long.
    Disconnected,
    /// The device is taken away: everything on it has to go.
    DeviceRemoval,
    /// The address has moved to another device.
    AddressChange,
    /// Nothing of interest.
    Other,
}

/// A request to connect.
pub struct Request {
    /// The new connection.
    pub id: CmId,
    /// What the peer said.
    pub private_data: Vec<u8>,
    /// Reads that the peer will ask for at once.
    pub peer_asks: u8,
    /// Reads that the peer serves at once.
    pub peer_serves: u8,
}

impl Event {
    /// Copies an event. `request` is the new identifier of a request.
    ///
    /// # Safety
    ///
    /// The event came from the library and is not acknowledged yet.
    pub unsafe fn copy(event: &ffi::CmEvent, request: Option<CmId>) -> Event {
        // SAFETY: as the caller promises.
        let said = || unsafe { private_data(&event.conn) };
        if let Some(id) = request {
            let request = Request {
                id,
                private_data: said(),
                peer_asks: event.conn.responder_resources,
                peer_serves: event.conn.initiator_depth,
            };
            return Event {
                key: event.listen_id.addr(),
                signal: Signal::Request(request),
            };
        }
        let signal = match event.event {
            ffi::CM_ADDRESS_RESOLVED => Signal::AddressResolved,
            ffi::CM_ROUTE_RESOLVED => Signal::RouteResolved,
            ffi::CM_ESTABLISHED => Signal::Established(said()),
            ffi::CM_REJECTED => Signal::Refused(said()),
            ffi::CM_ADDRESS_ERROR
            | ffi::CM_ROUTE_ERROR
            | ffi::CM_CONNECT_ERROR
            | ffi::CM_UNREACHABLE => Signal::Failed(reason(event.status)),
            ffi::CM_DISCONNECTED | ffi::CM_TIMEWAIT_EXIT => Signal::Disconnected,
            ffi::CM_DEVICE_REMOVAL => Signal::DeviceRemoval,
            ffi::CM_ADDRESS_CHANGE => Signal::AddressChange,
            _ => Signal::Other,
        };
        Event {
            key: event.id.addr(),
            signal,
        }
    }
}

/// A status of the manager: a negative number of an error, or a reason of the protocol.
fn reason(status: c_int) -> io::Error {
    match status {
        error if error < 0 => io::Error::from_raw_os_error(error.saturating_neg()),
        0 => io::Error::from(io::ErrorKind::ConnectionAborted),
        reason => io::Error::other(format!("reason {reason} of the connection manager")),
    }
}

/// # Safety
///
/// The parameters are of an event that is not acknowledged yet.
unsafe fn private_data(conn: &ffi::ConnParam) -> Vec<u8> {
    if conn.private_data.is_null() {
        return Vec::new();
    }
    let len = usize::from(conn.private_data_len);
    // SAFETY: the event has this many bytes there, as the caller promises.
    unsafe { slice::from_raw_parts(conn.private_data.cast::<u8>(), len) }.to_vec()
}

#[cfg(test)]
mod tests {
    use std::ffi::c_uint;
    use std::ptr;

    use super::*;

    fn event(kind: c_uint, status: c_int, said: &[u8]) -> Event {
        let raw = ffi::CmEvent {
            id: ptr::without_provenance_mut(0x1000),
            listen_id: ptr::null_mut(),
            event: kind,
            status,
            conn: ffi::ConnParam {
                private_data: said.as_ptr().cast(),
                private_data_len: said.len() as u8,
                responder_resources: 0,
                initiator_depth: 0,
                flow_control: 0,
                retry_count: 0,
                rnr_retry_count: 0,
                srq: 0,
                qp_num: 0,
            },
        };
        // SAFETY: it looks as if it came from the library.
        unsafe { Event::copy(&raw, None) }
    }

    #[test]
    fn events_are_told_apart() {
        let refused = event(ffi::CM_REJECTED, 28, b"full");
        assert_eq!(refused.key, 0x1000);
        assert!(matches!(refused.signal, Signal::Refused(said) if said == b"full"));
        let established = event(ffi::CM_ESTABLISHED, 0, &[]);
        assert!(matches!(established.signal, Signal::Established(said) if said.is_empty()));
        for kind in [ffi::CM_DISCONNECTED, ffi::CM_TIMEWAIT_EXIT] {
            assert!(matches!(event(kind, 0, &[]).signal, Signal::Disconnected));
        }
        assert!(matches!(event(99, 0, &[]).signal, Signal::Other));
    }

    #[test]
    fn a_failure_says_why() {
        let failed = |kind, status| match event(kind, status, &[]).signal {
            Signal::Failed(error) => error,
            _ => panic!("event {kind} is a failure"),
        };
        let error = failed(ffi::CM_ADDRESS_ERROR, -libc::ENODEV);
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let error = failed(ffi::CM_CONNECT_ERROR, 4);
        assert_eq!(error.to_string(), "reason 4 of the connection manager");
        let error = failed(ffi::CM_UNREACHABLE, c_int::MIN);
        assert!(error.raw_os_error().is_some());
    }
}
