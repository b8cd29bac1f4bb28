//! Seeds that failed once, with what was wrong. A seed stays close to what it found as long as the
//! plan draws the same; the reason says what to look for when it does not.

use sim_tests::plan::Class;
use sim_tests::run::run_seed;
use sim_tests::seeds::fail;

/// Seed, class, what was wrong.
const SEEDS: [(u64, Class, &str); 14] = [
    (
        36,
        Class::Crash,
        "recovery wanted a second place for a cluster whose direct write had been \
        replaced by small ones, and refused the volume because the pool was full",
    ),
    (
        41,
        Class::Crash,
        "batches kept for reuse held on to the payloads of hosts: all clients \
        waited for memory for ever",
    ),
    (55, Class::Crash, "as 41"),
    (72, Class::Crash, "as 41"),
    (
        114,
        Class::Crash,
        "clusters given up by a flush cycle came back only with the next one, \
        which an idle volume never had",
    ),
    (
        115,
        Class::Crash,
        "a direct write that power loss had undone became a damaged page when a \
        later life flushed",
    ),
    (152, Class::Crash, "as 36"),
    (172, Class::Crash, "as 114"),
    (
        522,
        Class::Crash,
        "recovery could not renew the promises of a full pool, because map nodes \
        had taken of their reserve since, and refused the volume",
    ),
    (560, Class::Crash, "as 522"),
    (
        113,
        Class::Corruption,
        "the pieces of one read waited for memory credits that its own later \
        pieces held: the read hung",
    ),
    (
        133,
        Class::Corruption,
        "the newest batch of a log that had been opened and served before was damaged, was taken \
        for a torn one, and its writes were silently rolled back",
    ),
    (226, Class::Corruption, "as 133"),
    (
        204,
        Class::Crash,
        "one write error while opening stops the pool; a restart serves it",
    ),
];

#[test]
fn seeds_that_failed_once_pass() {
    for (seed, class, reason) in SEEDS {
        if let Err(failure) = run_seed(seed, class) {
            eprintln!("this seed failed before: {reason}");
            fail(&failure);
        }
    }
}
