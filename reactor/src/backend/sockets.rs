//! Sockets on a real kernel: making them, and the non-blocking calls of the hot gear.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{
    Ipv6V6Only, KeepAlive, ReuseAddr, TcpCongestion, TcpKeepCount, TcpKeepIdle, TcpKeepInterval,
    TcpNoDelay,
};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, getpeername,
    getsockname, recv, sendmsg, setsockopt, socket,
};

/// Slices looked at by one send: what the kernel takes.
const MAX_SLICES: usize = 1024;

/// Connections the kernel completes before we accept them. A host opens one per queue at once; with
/// a full line the kernel drops newcomers, which then try again only after a second or more.
const BACKLOG: i32 = 1024;

/// A dead peer is noticed after 30 s of silence and 3 probes, 10 s apart.
const KEEPALIVE_IDLE_S: u32 = 30;
const KEEPALIVE_INTERVAL_S: u32 = 10;
const KEEPALIVE_PROBES: u32 = 3;

pub(super) fn bind(addr: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let fd = unconnected(addr)?;
    if addr.is_ipv6() {
        // `[::]` means the addresses of its family, so that `0.0.0.0` beside it is no conflict.
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    // Without SO_REUSEADDR the port is ours alone. With it, whoever sets it too could bind as well
    // until one of us listens; but only so is a port free that closed connections linger on.
    match bind_to(&fd, addr) {
        Err(Errno::EADDRINUSE) => {
            setsockopt(&fd, ReuseAddr, &true)?;
            bind_to(&fd, addr)?;
        }
        other => other?,
    }
    let bound = local_addr(fd.as_fd())?;
    Ok((fd, bound))
}

fn bind_to(fd: &OwnedFd, addr: SocketAddr) -> nix::Result<()> {
    nix::sys::socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))
}

pub(super) fn listen(bound: BorrowedFd<'_>) -> io::Result<()> {
    // Its connections inherit this, and while they linger it lets the next server have the port.
    setsockopt(&bound, ReuseAddr, &true)?;
    Ok(nix::sys::socket::listen(&bound, Backlog::new(BACKLOG)?)?)
}

pub(super) fn new_socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let fd = unconnected(addr)?;
    tune(fd.as_fd());
    Ok(fd)
}

fn unconnected(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socket(family, SockType::Stream, flags, None)?)
}

/// Options of every connection. A missing one costs speed, not correctness, so it is no error.
pub(super) fn tune(fd: BorrowedFd<'_>) {
    let results = [
        ("TCP_NODELAY", setsockopt(&fd, TcpNoDelay, &true)),
        (
            "TCP_CONGESTION=cubic",
            setsockopt(&fd, TcpCongestion, &OsString::from("cubic")),
        ),
        ("SO_KEEPALIVE", setsockopt(&fd, KeepAlive, &true)),
        (
            "TCP_KEEPIDLE",
            setsockopt(&fd, TcpKeepIdle, &KEEPALIVE_IDLE_S),
        ),
        (
            "TCP_KEEPINTVL",
            setsockopt(&fd, TcpKeepInterval, &KEEPALIVE_INTERVAL_S),
        ),
        (
            "TCP_KEEPCNT",
            setsockopt(&fd, TcpKeepCount, &KEEPALIVE_PROBES),
        ),
    ];
    for (option, result) in results {
        if let Err(error) = result {
            tracing::debug!(option, %error, "socket option not set");
        }
    }
}

pub(super) fn try_recv(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    Ok(recv(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT)?)
}

pub(super) fn try_send(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let slices = &slices[..slices.len().min(MAX_SLICES)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<SockaddrStorage>(
        fd.as_raw_fd(),
        slices,
        &[],
        flags,
        None,
    )?)
}

pub(super) fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => nix::sys::socket::Shutdown::Read,
        Shutdown::Write => nix::sys::socket::Shutdown::Write,
        Shutdown::Both => nix::sys::socket::Shutdown::Both,
    };
    Ok(nix::sys::socket::shutdown(fd.as_raw_fd(), how)?)
}

pub(super) fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    to_std(getpeername::<SockaddrStorage>(fd.as_raw_fd())?)
}

pub(super) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    to_std(getsockname::<SockaddrStorage>(fd.as_raw_fd())?)
}

fn to_std(addr: SockaddrStorage) -> io::Result<SocketAddr> {
    let v4 = addr
        .as_sockaddr_in()
        .map(|addr| SocketAddr::V4((*addr).into()));
    let v6 = || {
        addr.as_sockaddr_in6()
            .map(|addr| SocketAddr::V6((*addr).into()))
    };
    v4.or_else(v6)
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}
