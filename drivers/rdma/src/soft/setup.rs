//! How a connection comes to stand: the side that connects, and the words of both.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use net::{Closed, Socket};
use reactor::net::TcpStream;

use crate::card::PairBackend;
use crate::error::RdmaError;
use crate::options::PairOptions;

use super::card::{Shared, Slot};
use super::faults::SetupStep;
use super::frame::{
    ACCEPT_DATA_BYTES, CONNECT_DATA_BYTES, FRAME_BYTES, Frame, Kind, REJECT_DATA_BYTES,
};
use super::handle::Handle;
use super::pair::Pair;

/// A set-up that ended because the other side did.
pub(super) fn gone(address: SocketAddr) -> RdmaError {
    RdmaError::Gone { address }
}

pub(super) fn failed(step: &'static str, address: SocketAddr, error: io::Error) -> RdmaError {
    RdmaError::Setup {
        step,
        address,
        error,
    }
}

/// More private data than the connection manager carries.
pub(super) fn check_len(address: SocketAddr, data: &[u8], max: usize) -> Result<(), RdmaError> {
    if data.len() <= max {
        return Ok(());
    }
    let why = format!("{} bytes of private data, {max} are possible", data.len());
    let error = io::Error::new(ErrorKind::InvalidInput, why);
    Err(failed("sending private data", address, error))
}

/// See [`crate::Card::connect`].
pub(super) async fn connect(
    card: &Rc<Shared>,
    address: SocketAddr,
    private_data: &[u8],
    options: PairOptions,
) -> Result<(Rc<dyn PairBackend>, Vec<u8>), RdmaError> {
    check_len(address, private_data, CONNECT_DATA_BYTES)?;
    let slot = Slot::take(card, address, &options)?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| not_there(address, error))?;
    let socket = Socket::new(stream);
    break_at(card, SetupStep::Connecting, address)?;
    let number = card.next_number();
    let len = private_data.len();
    let greeting = Frame::greeting(Kind::Connect, number, len, options.read_depth);
    let lost = |_| gone(address);
    say(&socket, greeting, private_data).await.map_err(lost)?;
    break_at(card, SetupStep::Waiting, address)?;
    let (frame, said) = hear(&socket).await.map_err(lost)?;
    break_at(card, SetupStep::Connected, address)?;
    let read_depth = match (frame.kind, frame.read_depth(ACCEPT_DATA_BYTES)) {
        (Kind::Accept, Some(read_depth)) => read_depth,
        (Kind::Reject, Some(_)) => return Err(refused(address, said)),
        _ => return Err(nonsense(address)),
    };
    let ready = Frame::new(Kind::Ready, 0, 0);
    say(&socket, ready, &[]).await.map_err(lost)?;
    let pair = Pair::start(slot, number, socket, options, read_depth);
    Ok((Rc::new(Handle(pair)), said))
}

/// Nobody listens is a refusal, as with a real connection manager.
fn not_there(address: SocketAddr, error: io::Error) -> RdmaError {
    match error.kind() {
        ErrorKind::ConnectionRefused => refused(address, vec![0; REJECT_DATA_BYTES]),
        ErrorKind::ConnectionReset => gone(address),
        _ => failed("connecting", address, error),
    }
}

fn refused(address: SocketAddr, private_data: Vec<u8>) -> RdmaError {
    RdmaError::Refused {
        address,
        private_data,
    }
}

pub(super) fn nonsense(address: SocketAddr) -> RdmaError {
    let error = io::Error::new(ErrorKind::InvalidData, "no word of a simulated card");
    failed("connecting", address, error)
}

pub(super) fn break_at(
    card: &Shared,
    step: SetupStep,
    address: SocketAddr,
) -> Result<(), RdmaError> {
    match card.faults.breaks_at(step) {
        true => Err(gone(address)),
        false => Ok(()),
    }
}

/// Sends a frame with private data.
pub(super) async fn say(
    socket: &Socket<()>,
    frame: Frame,
    private_data: &[u8],
) -> Result<(), Closed<()>> {
    let mut bytes = Vec::with_capacity(FRAME_BYTES + private_data.len());
    bytes.extend_from_slice(&frame.encode());
    bytes.extend_from_slice(private_data);
    socket.send_all(&bytes).await
}

/// The next frame of a set-up, with its private data padded with zeroes, as a connection manager
/// delivers it. Reads not a byte beyond it.
pub(super) async fn hear(socket: &Socket<()>) -> Result<(Frame, Vec<u8>), Closed<()>> {
    let bad = Closed::Failed(ErrorKind::InvalidData);
    let mut header = [0; FRAME_BYTES];
    receive_all(socket, &mut header).await?;
    let frame = Frame::decode(&header).ok_or(bad)?;
    let max = match frame.kind {
        Kind::Connect => CONNECT_DATA_BYTES,
        Kind::Accept => ACCEPT_DATA_BYTES,
        Kind::Reject => REJECT_DATA_BYTES,
        _ => 0,
    };
    let mut private_data = vec![0; max];
    let said = private_data.get_mut(..frame.len as usize).ok_or(bad)?;
    receive_all(socket, said).await?;
    Ok((frame, private_data))
}

async fn receive_all(socket: &Socket<()>, bytes: &mut [u8]) -> Result<(), Closed<()>> {
    let mut filled = 0;
    while let Some(left) = bytes.get_mut(filled..).filter(|left| !left.is_empty()) {
        filled += socket.recv(left).await?;
    }
    Ok(())
}
