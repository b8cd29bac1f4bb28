//! What devices tell: asynchronous events, in our words.
#![expect(
    unsafe_code,
    reason = "reads an object of the library that an event names"
)]

use std::ffi::c_void;

use super::ffi;

/// What happened to a device, for all cores that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A queue pair can do nothing more.
    PairFailed(u32),
    /// A queue pair that failed has taken its last receive.
    LastReceive(u32),
    /// A message has come before the connection manager's last word.
    Talks(u32),
    /// The completion queue at this address has overflowed.
    CompletionsLost(usize),
    /// The shared receive queue at this address can do nothing more.
    ReceivesLost(usize),
    /// The device can do nothing more.
    DeviceFailed,
    /// The link of a port is down. Pairs live on if it comes back before their retries end.
    PortDown(u8),
    /// The link of a port is up.
    PortUp(u8),
}

/// What an event means to us; none when nothing.
///
/// # Safety
///
/// The event is not acknowledged yet.
pub unsafe fn meaning(event: &ffi::AsyncEvent) -> Option<News> {
    let address = event.element.addr();
    // SAFETY: for the kinds of events where it is called, `element` is a queue pair, which is not
    // destroyed before the event is acknowledged.
    let pair = |element: *mut c_void| unsafe { (*element.cast::<ffi::Qp>()).qp_num };
    Some(match event.event_type {
        ffi::ASYNC_QP_FATAL | ffi::ASYNC_QP_REQUEST_ERROR | ffi::ASYNC_QP_ACCESS_ERROR => {
            News::PairFailed(pair(event.element))
        }
        ffi::ASYNC_LAST_WQE_REACHED => News::LastReceive(pair(event.element)),
        ffi::ASYNC_COMMUNICATION_ESTABLISHED => News::Talks(pair(event.element)),
        ffi::ASYNC_CQ_ERROR => News::CompletionsLost(address),
        ffi::ASYNC_SRQ_ERROR => News::ReceivesLost(address),
        ffi::ASYNC_DEVICE_FATAL => News::DeviceFailed,
        ffi::ASYNC_PORT_ERROR => News::PortDown(address as u8),
        ffi::ASYNC_PORT_ACTIVE => News::PortUp(address as u8),
        _ => return None,
    })
}
