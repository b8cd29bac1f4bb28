//! On real sockets: an initiator logs in at one core and is served by another, data is whole, and
//! the target ends in order.

mod common;

use common::initiator::{Initiator, Wish};
use common::iscsi_served::{HostCore, serve_part};
use frontends::iscsi::Directory;
use wire::iscsi::LogoutReason;

const BLOCK: usize = 4096;

fn pattern(seed: usize, blocks: usize) -> Vec<u8> {
    let byte = |at: usize| (at / 13 + at * 7 + seed) as u8;
    (0..blocks * BLOCK).map(byte).collect()
}

#[test]
fn a_login_moves_to_the_core_of_its_volume() {
    let directory = Directory::new();
    let home = serve_part(directory.clone(), Some(BLOCK as u32));
    let door = serve_part(directory, None);
    let host = HostCore::new();
    let address = door.address;
    let one = host.run(move || async move {
        for digests in [false, true] {
            let wish = Wish {
                digests,
                ..Wish::new()
            };
            let mut one = Initiator::login(address, wish).await.expect("a login");
            one.settle().await.expect("ready");
            for blocks in [1, 3, 16, 17, 100, 256] {
                let data = pattern(blocks, blocks);
                one.write(5, &data, BLOCK).await.expect("written");
                let found = one.read(5, blocks as u16, BLOCK).await.expect("read");
                assert!(found == data, "{blocks} blocks differ");
            }
            let text = one.text(b"SendTargets=\0").await.expect("an answer");
            assert_eq!(
                text.split(|byte| *byte == 0).count(),
                4,
                "a name, two portals"
            );
            if digests {
                return one.tsih;
            }
            let answer = one.logout(LogoutReason::CLOSE_SESSION, 0).await;
            assert_eq!(answer.expect("an answer"), 0);
        }
        0
    });
    assert_ne!(one, 0);
    let at_door = door.on_core(|target| async move { target.metrics() });
    assert!(at_door.sessions.is_empty() && at_door.logins == 0);
    let metrics = home.on_core(|target| async move { target.metrics() });
    assert_eq!(metrics.logins, 2);
    assert_eq!(metrics.closed.get("logged_out"), Some(&1), "{metrics:?}");
    let moved = 2 * 2 * (1 + 3 + 16 + 17 + 100 + 256) * BLOCK as u64;
    assert_eq!(metrics.total.payload_bytes, moved);
    assert_eq!(
        (metrics.total.protocol_errors, metrics.total.digest_errors),
        (0, 0)
    );
    drop(host);
    door.stop();
    home.stop();
}
