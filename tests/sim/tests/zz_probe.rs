//! Scratch: counts failures over many seeds.
use sim_tests::plan::Class;
use sim_tests::run::run_seed;
#[test]
fn probe() {
    let get = |n: &str, d: u64| std::env::var(n).ok().and_then(|t| t.parse().ok()).unwrap_or(d);
    let (base, count) = (get("B", 0), get("N", 100));
    let class = if get("C", 0) == 0 { Class::Crash } else { Class::Corruption };
    for seed in base..base + count {
        if let Err(f) = run_seed(seed, class) {
            println!("FAIL {} {}", f.seed, f.what.replace('\n', " | "));
        }
    }
}
