//! A test of the tests: each planted bug must be noticed by the crash stories.
//!
//! `SkipFlushBeforeInPlace` needs a rare moment; the swarm of tests/sim finds it.
//!
//! Lives work until the crash: some bugs need a long one. Run it optimised:
//! `CARGO_PROFILE_TEST_OPT_LEVEL=1 cargo nextest run --features mutations --test mutations`.
#![cfg(feature = "mutations")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::story::lives;
use volume::mutation::{self, Mutation};

/// Seeds tried until one notices.
const SEEDS: u64 = 60;

fn is_noticed() -> Option<u64> {
    (0..SEEDS).find(|seed| catch_unwind(AssertUnwindSafe(|| lives(*seed, u64::MAX))).is_err())
}

fn check(mutation: Mutation) {
    mutation::select(Some(mutation));
    let noticed = is_noticed();
    mutation::select(None);
    assert!(
        noticed.is_some(),
        "{mutation:?} was not noticed by {SEEDS} seeds"
    );
    println!("{mutation:?}: noticed by seed {noticed:?}");
}

#[test]
fn acknowledging_before_the_journal() {
    check(Mutation::AckBeforeJournal);
}

#[test]
fn forgetting_newer_entries() {
    check(Mutation::DropLsnCompareInIndex);
}

#[test]
fn leaving_out_the_last_batch() {
    check(Mutation::ReplayStopsEarly);
}

#[test]
fn no_device_flush_on_fua() {
    check(Mutation::NoFlushOnFua);
}

#[test]
fn reading_without_checksums() {
    check(Mutation::SkipPageCrcOnRead);
}
