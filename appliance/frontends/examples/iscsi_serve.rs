use frontends::HostAccess;
use frontends::iscsi::{Options, Target};
use frontends::reservation::Reservations;
use reactor::cores::CoreConfig;
use std::net::SocketAddr;
use std::time::Duration;
fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let port: u16 = std::env::args().nth(1).map_or(3260, |p| p.parse().unwrap());
    let block: u32 = std::env::args().nth(2).map_or(512, |p| p.parse().unwrap());
    let config = CoreConfig {
        cpu: None,
        spin: reactor::Spin::For(Duration::from_micros(50)),
        io_pool_bytes: 64 << 20,
        engine_pool_bytes: 4 << 20,
        name: "target".to_owned(),
    };
    reactor::cores::run(config, move || async move {
        let target = Target::new(Options {
            linger: Duration::from_millis(500),
            ..Options::default()
        })
        .unwrap();
        let volume = volume::testing::memory_volume((64 << 20) / u64::from(block), block);
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume, reservations, HostAccess::Any)
            .unwrap();
        let bound =
            reactor::net::BoundSocket::bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let listener = target.listen_on(bound, 1).unwrap();
        println!("listening on {}", listener.address());
        reactor::time::sleep(Duration::from_secs(86400)).await;
    })
    .unwrap();
}
