//! Seeds that failed once, with what was wrong. A seed stays close to what it found as long as the
//! plan draws the same; the reason says what to look for when it does not.

use sim_tests::plan::Class;
use sim_tests::run::run_seed;
use sim_tests::seeds::fail;

/// Class, seeds, what was wrong.
const SEEDS: [(Class, &[u64], &str); 6] = [
    (
        Class::Crash,
        &[12, 134, 702],
        "recovery asked a full pool for room that it had been promised before: for a cluster \
        whose direct write had been replaced by small ones, or because map nodes had taken \
        of the reserve since",
    ),
    (
        Class::Crash,
        &[9, 71, 117],
        "batches kept for reuse held on to the payloads of hosts: all clients waited for \
        memory for ever",
    ),
    (
        Class::Crash,
        &[719, 765],
        "clusters given up by a flush cycle came back only with the next one, which an idle \
        volume never had",
    ),
    (
        Class::Crash,
        &[728],
        "one failed read while a flush cycle copied a page to its new cluster lost the page",
    ),
    (
        Class::Corruption,
        &[28, 113],
        "the pieces of one read waited for memory credits that its own later pieces held: the \
        read hung",
    ),
    (
        Class::Corruption,
        &[41, 133, 201, 226],
        "the newest batch of a log that had been opened and served before was damaged, was \
        taken for a torn one, and its writes were silently rolled back",
    ),
];

#[test]
fn seeds_that_failed_once_pass() {
    for (class, seeds, reason) in SEEDS {
        for seed in seeds {
            if let Err(failure) = run_seed(*seed, class) {
                eprintln!("this seed failed before: {reason}");
                fail(&failure);
            }
        }
    }
}
