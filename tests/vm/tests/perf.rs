//! The comparison with the kernel's own target works from end to end. How the two compare is not
//! judged here: times on a shared machine are no test. `make vm-perf` measures.

use vm_tests::perf::{Plan, run};

#[test]
fn both_targets_of_one_vm_are_measured() {
    let plan = Plan {
        rounds: 1,
        fio_jobs: vec!["commit".to_owned()],
        fio_s: 1,
        fio_ramp_s: 0,
        pg_s: 0,
        volume_mib: 64,
        ..Plan::default()
    };
    let mut turns = Vec::new();
    let cases = run("perf-smoke", &plan, |turn| turns.push(turn.side)).unwrap();
    assert_eq!(turns.len(), 2, "each side has its turn");
    let ratio = cases[0].ratio().expect("both sides were measured");
    assert!(ratio.median.is_finite() && ratio.median > 0.0, "{ratio:?}");
}
