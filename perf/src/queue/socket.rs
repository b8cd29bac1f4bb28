//! Blocking steps on a socket, for the few round trips before a queue takes over.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::PerfError;

/// Connects; each read and write after waits at most `timeout`.
///
/// Errors: `Socket`.
pub fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, PerfError> {
    let prepare = |socket: TcpStream| {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        Ok(socket)
    };
    TcpStream::connect_timeout(&address, timeout)
        .and_then(prepare)
        .map_err(|source| failed("connecting", source))
}

/// Makes a socket non-blocking.
///
/// Errors: `Socket`.
pub fn unblock(socket: &TcpStream) -> Result<(), PerfError> {
    let result = socket.set_nonblocking(true);
    result.map_err(|source| failed("connecting", source))
}

/// Fills `bytes`.
///
/// Errors: `Socket`; `Closed` at the end of the stream.
pub fn read_exact(
    socket: &mut impl Read,
    doing: &'static str,
    bytes: &mut [u8],
) -> Result<(), PerfError> {
    socket.read_exact(bytes).map_err(|source| {
        if source.kind() == ErrorKind::UnexpectedEof {
            PerfError::Closed { doing }
        } else {
            failed(doing, source)
        }
    })
}

/// Sends all of `bytes`.
///
/// Errors: `Socket`.
pub fn write(socket: &mut impl Write, doing: &'static str, bytes: &[u8]) -> Result<(), PerfError> {
    let result = socket.write_all(bytes);
    result.map_err(|source| failed(doing, source))
}

fn failed(doing: &'static str, source: std::io::Error) -> PerfError {
    PerfError::Socket { doing, source }
}
