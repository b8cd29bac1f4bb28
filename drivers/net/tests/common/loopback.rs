//! A core for one test, and a pair of sockets over loopback.

use std::future::Future;
use std::time::Duration;

use reactor::cores::{self, CoreConfig};
use reactor::net::{TcpListener, TcpStream};
use reactor::time::timeout;
use reactor::{Spin, spawn};

use super::TestSocket;

/// Runs `main` on a core of its own, for at most 20 s.
pub fn run<F: Future<Output = ()> + 'static>(spin: Spin, main: impl FnOnce() -> F + 'static) {
    let config = CoreConfig {
        spin,
        io_pool_bytes: 8 << 20,
        ..CoreConfig::default()
    };
    let limited = || async move { timeout(Duration::from_secs(20), main()).await };
    cores::run(config, limited)
        .expect("the core runs")
        .expect("the test ends within 20 s");
}

/// Two ends of one connection.
pub async fn pair() -> (TestSocket, TestSocket) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
    let (server, _) = listener.accept().await.unwrap();
    (TestSocket::new(client.await), TestSocket::new(server))
}
