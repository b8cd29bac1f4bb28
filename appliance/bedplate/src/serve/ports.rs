//! Checks that the listeners will open, before anything on disk is touched.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

/// How often an address in use is tried. A server that was killed keeps its listener until the kernel
/// has taken its ring down, which takes a moment after the process is gone.
const TRIES: u32 = 40;
/// Pause between tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Refuses addresses that cannot be listened on.
///
/// The sockets are bound and never listen: a listener opens only when its volumes are there.
pub async fn check(addresses: &[SocketAddr]) -> anyhow::Result<()> {
    for address in addresses {
        bind_in_time(*address).await.with_context(|| {
            format!(
                "[nvme_tcp] cannot listen on {address}; stop what listens there, or choose another \
                 address or port"
            )
        })?;
    }
    Ok(())
}

async fn bind_in_time(address: SocketAddr) -> nix::Result<()> {
    for _ in 1..TRIES {
        match try_bind(address) {
            Err(Errno::EADDRINUSE) => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
    try_bind(address)
}

fn try_bind(address: SocketAddr) -> nix::Result<()> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // As the listener does: connections of an earlier server that linger are no obstacle.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_somebody_listens_on_is_refused_and_a_free_one_is_left_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = format!("{:#}", check(&[address]).await.unwrap_err());
        assert!(error.contains(&address.to_string()), "{error}");
        drop(taken);
        check(&[address]).await.unwrap();
        TcpListener::bind(address).unwrap();
    }
}
