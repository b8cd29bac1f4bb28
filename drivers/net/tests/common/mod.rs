//! What both kinds of tests need: bytes to recognise, and the loops that a transport would have.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod loopback;

use net::{Closed, SendQueue, Socket};

/// Why a test ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    First,
    Second,
}

pub type TestSocket = Socket<Reason>;

/// Bytes that differ from place to place and from salt to salt.
pub fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 31 + at / 251 + salt) as u8)
        .collect()
}

/// Fills `bytes`.
pub async fn recv_exact(socket: &TestSocket, bytes: &mut [u8]) -> Result<(), Closed<Reason>> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += socket.recv(&mut bytes[filled..]).await?;
    }
    Ok(())
}

/// Sends what the queue holds, until everything is sent after the socket was told to end.
pub async fn send_loop(queue: &SendQueue, socket: &TestSocket) -> Result<(), Closed<Reason>> {
    loop {
        while !queue.is_empty() {
            if !queue.send_once(socket)? {
                socket.writable().await?;
            }
        }
        if socket.ending().is_some() {
            return Ok(());
        }
        queue.filled().await;
    }
}

/// Ends the socket once its queue is sent; see [`send_loop`].
pub fn finish(queue: &SendQueue, socket: &TestSocket) {
    socket.end(Reason::First);
    queue.wake();
}
