//! After warm-up a command allocates nothing from the heap, on either path.

mod common;

use common::host::{Attached, Host, Link0, attach, pattern};
use common::serve;
use wire::nvme::Sqe;

fn reads(io: &mut Host, rounds: u64) {
    for round in 0..rounds {
        assert!(
            io.read_blocks(round % 8, 1 + (round % 40) as u32, 4096)
                .status
                .is_success()
        );
    }
}

fn writes(io: &mut Host, rounds: u64, blocks: usize) {
    let data = pattern(3, blocks * 4096);
    for _ in 0..rounds {
        assert!(io.write_blocks(0, &data, 4096).status.is_success());
    }
}

#[test]
fn commands_allocate_nothing_after_warm_up() {
    let served = serve(4096);
    let want = Link0 {
        header_digest: true,
        data_digest: true,
        hpda: 0,
    };
    let Attached {
        mut admin, mut io, ..
    } = attach(served.address, want, 64);
    reads(&mut io, 300);
    writes(&mut io, 100, 1);
    writes(&mut io, 100, 40);
    let flushes = |io: &mut Host| {
        for _ in 0..100 {
            assert!(io.run(Sqe::flush(0, 1)).status.is_success());
        }
    };
    flushes(&mut io);
    assert_eq!(served.allocations_of(|| reads(&mut io, 500)), 0, "reads");
    // The memory volume of these tests keeps each block in a box of its own.
    assert_eq!(
        served.allocations_of(|| writes(&mut io, 500, 1)),
        500,
        "writes in the capsule"
    );
    assert_eq!(
        served.allocations_of(|| writes(&mut io, 100, 40)),
        4000,
        "writes by R2T"
    );
    assert_eq!(served.allocations_of(|| flushes(&mut io)), 0, "flushes");
    assert!(admin.run(Sqe::keep_alive(0)).status.is_success());
}
