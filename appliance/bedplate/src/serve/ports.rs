//! Takes the addresses of the listeners, before anything on disk is touched.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use reactor::net::BoundSocket;

/// How often an address in use is tried. A server that was killed keeps its listener until the kernel
/// has taken its ring down, which takes a moment after the process is gone; nobody can be asked when
/// that is done, and whoever restarts the server at once must not be refused for it.
pub const TRIES: u32 = 40;
/// Pause between tries.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Binds the addresses of a table of the configuration on this core, or says which cannot be had.
///
/// Nobody can connect yet: a listener opens only when its volumes are there.
pub async fn bind(table: &str, addresses: &[SocketAddr]) -> anyhow::Result<Vec<BoundSocket>> {
    let mut bound = Vec::with_capacity(addresses.len());
    for address in addresses {
        let socket = bind_in_time(*address).await.with_context(|| {
            format!(
                "[{table}] cannot listen on {address}; stop what listens there, or choose another \
                 address or port"
            )
        })?;
        bound.push(socket);
    }
    Ok(bound)
}

async fn bind_in_time(address: SocketAddr) -> io::Result<BoundSocket> {
    for _ in 1..TRIES {
        match BoundSocket::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => reactor::time::sleep(PAUSE).await,
            other => return other,
        }
    }
    BoundSocket::bind(address)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::rc::Rc;

    use reactor::cores::CoreConfig;

    use super::*;

    fn on_a_core<F: Future<Output = ()> + 'static>(main: impl FnOnce() -> F + Send + 'static) {
        let config = CoreConfig {
            cpu: None,
            spin: reactor::Spin::For(Duration::ZERO),
            io_pool_bytes: 4 << 20,
            engine_pool_bytes: 4 << 20,
            name: "ports".to_owned(),
        };
        reactor::cores::run(config, main).expect("a core");
    }

    #[test]
    fn a_port_somebody_listens_on_is_refused_by_name() {
        on_a_core(|| async {
            let taken = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = taken.local_addr().unwrap();
            let error = format!("{:#}", bind("nvme_tcp", &[address]).await.unwrap_err());
            let named = error.contains(&address.to_string()) && error.contains("[nvme_tcp]");
            assert!(named, "{error}");
        });
    }

    #[test]
    fn a_port_that_becomes_free_in_time_is_waited_for() {
        on_a_core(|| async {
            let taken = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
            let address = taken.local_addr().unwrap();
            let until = Rc::clone(&taken);
            reactor::spawn(async move {
                reactor::time::sleep(3 * PAUSE).await;
                drop(until);
            })
            .detach();
            drop(taken);
            let bound = bind("nvme_tcp", &[address]).await.unwrap();
            assert_eq!(bound[0].local_addr(), address);
        });
    }
}
