//! A test of the tests: every planted bug is caught by a checker, and the seeds that catch it pass
//! without it.
//!
//! Needs the feature `mutations`: `cargo nextest run -p bedplate-sim-tests --features mutations
//! --cargo-profile sim -E 'binary(mutations)'`.

use sim_tests::plan::{Class, Plan};
use sim_tests::run::run_seed;
use store::mutation::Mutation as InStore;
use volume::mutation::Mutation as InVolume;

/// Seeds tried before a mutation counts as survived.
const SEEDS_MAX: usize = 1_000;

/// One planted bug.
#[derive(Clone, Copy, Debug)]
enum Planted {
    Store(InStore),
    Volume(InVolume),
}

impl Planted {
    fn select(which: Option<Planted>) {
        let (in_store, in_volume) = match which {
            None => (None, None),
            Some(Planted::Store(bug)) => (Some(bug), None),
            Some(Planted::Volume(bug)) => (None, Some(bug)),
        };
        store::mutation::select(in_store);
        volume::mutation::select(in_volume);
    }
}

/// Runs seeds until one fails with the bug planted, then demands that it passes without. `first`
/// is a seed that caught it before: it saves time, no more. Only plans that `suits` are run.
fn is_caught(bug: Planted, class: Class, first: u64, suits: impl Fn(&Plan) -> bool) {
    Planted::select(Some(bug));
    let suiting = (0..).filter(|seed| suits(&Plan::new(*seed, class)));
    let mut seeds = std::iter::once(first).chain(suiting.take(SEEDS_MAX));
    let caught = seeds.find_map(|seed| run_seed(seed, class).err());
    Planted::select(None);
    let Some(failure) = caught else {
        panic!("{bug:?} survived {SEEDS_MAX} seeds");
    };
    eprintln!("{bug:?}: seed {}: {}", failure.seed, failure.what);
    if let Err(failure) = run_seed(failure.seed, class) {
        panic!("without {bug:?} the seed fails, too\n{failure}");
    }
}

macro_rules! caught {
    ($($test:ident: $bug:expr, $class:expr, $first:expr;)*) => {
        $(#[test]
        fn $test() {
            is_caught($bug, $class, $first, |_| true);
        })*
    };
}

/// It takes a pool that is nearly full, where what was freed is taken again at once.
#[test]
fn free_before_publish() {
    let bug = Planted::Store(InStore::FreeBeforePublish);
    is_caught(bug, Class::Crash, 4760, |plan| plan.churn);
}

caught! {
    ack_before_journal: Planted::Volume(InVolume::AckBeforeJournal), Class::Crash, 7;
    skip_page_crc_on_read: Planted::Volume(InVolume::SkipPageCrcOnRead), Class::Corruption, 7;
    drop_lsn_compare_in_index: Planted::Volume(InVolume::DropLsnCompareInIndex), Class::Crash, 1;
    skip_flush_before_in_place: Planted::Volume(InVolume::SkipFlushBeforeInPlace), Class::Crash, 186;
    replay_stops_early: Planted::Volume(InVolume::ReplayStopsEarly), Class::Crash, 2;
    no_flush_on_fua: Planted::Volume(InVolume::NoFlushOnFua), Class::Crash, 0;
    skip_flush_before_superblock: Planted::Store(InStore::SkipFlushBeforeSuperblock), Class::Crash, 133;
    ignore_epoch_in_scan: Planted::Store(InStore::IgnoreEpochInScan), Class::Crash, 19;
}
