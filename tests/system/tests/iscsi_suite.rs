//! The conformance suite of libiscsi against the real binary: every test, none fails, and none is
//! left out but those that `docs/iscsi-suite.md` names with a reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use system_tests::binary::{mortal, run_to_end};
use system_tests::iscsi::suite::{self, Run};
use system_tests::iscsi::verdict::Verdict;
use system_tests::{Server, Setup};

/// Longest time of a test. The longest of them wait out a timeout of 3 s four times.
const LIMIT: Duration = Duration::from_secs(60);
/// It sleeps 60 s once it has seen what it wants.
const SLOW_LIMIT: Duration = Duration::from_secs(240);
/// How many tests the page may allow to be left out.
const MOST_SKIPS: usize = 12;

/// Asserts that the unit is still busy seconds after SANITIZE was sent.
const SLOW: &str = "ALL.Sanitize.Reset";
/// Wants a unit that is write-protected when the test begins.
const PROTECTED: &str = "ALL.ReadOnly.ReadOnlySBC";

/// Volumes of 512-byte blocks, one for each worker.
const UNITS: [&str; 2] = ["left", "right"];
/// A volume that takes seconds to overwrite.
const LARGE: &str = "large";

type Verdicts = BTreeMap<String, Verdict>;

/// What the workers share.
#[derive(Debug)]
struct Suite<'a> {
    server: &'a Server,
    mend: PathBuf,
    todo: Mutex<Vec<String>>,
    verdicts: Mutex<Verdicts>,
}

impl Suite<'_> {
    fn next(&self) -> Option<String> {
        self.todo.lock().expect("no worker panicked").pop()
    }

    /// Runs `test` on `volume` and notes its verdict.
    fn run(&self, test: &str, volume: &str) {
        let url = self.server.setup.iscsi_url(volume);
        let limit = if test == SLOW { SLOW_LIMIT } else { LIMIT };
        let verdict = Run {
            test,
            urls: [&url, &url],
            limit,
            mend: &self.mend,
        }
        .judge();
        let mut verdicts = self.verdicts.lock().expect("no worker panicked");
        verdicts.insert(test.to_owned(), verdict);
    }

    /// Runs what is left on `volume`, a test at a time.
    fn work(&self, volume: &str) {
        while let Some(test) = self.next() {
            match test.as_str() {
                PROTECTED => {
                    protect(&self.server.setup.iscsi_url(volume), "on");
                    self.run(&test, volume);
                    protect(&self.server.setup.iscsi_url(volume), "off");
                }
                _ => self.run(&test, volume),
            }
        }
    }
}

/// Sets or clears the unit's write protection, as another initiator.
fn protect(url: &str, state: &str) {
    let mut command = mortal("iscsi-swp");
    command.args([&format!("--swp={state}"), url]);
    let finished = run_to_end(command, format!("iscsi-swp {state}"), LIMIT);
    finished.expect("iscsi-swp ends").expect_code(0);
}

fn serve() -> Server {
    let mut setup = Setup::new().iscsi(1).pool_in_memory("memory", "1GiB");
    for name in UNITS {
        setup = setup.volume(name, "64MiB", 512);
    }
    setup = setup.pool("file", "4GiB").volume(LARGE, "2GiB", 512);
    Server::start(setup)
}

fn run_all(server: &Server) -> Verdicts {
    let (slow, rest): (Vec<_>, Vec<_>) = suite::names().into_iter().partition(|t| t == SLOW);
    let suite = Suite {
        server,
        mend: suite::mend(server.setup.directory()),
        todo: Mutex::new(rest),
        verdicts: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let suite = &suite;
        for volume in UNITS {
            scope.spawn(|| suite.work(volume));
        }
        for test in slow {
            scope.spawn(move || suite.run(&test, LARGE));
        }
    });
    suite.verdicts.into_inner().expect("no worker panicked")
}

/// Prints and counts the tests that failed.
fn failures(verdicts: &Verdicts) -> usize {
    let failed = verdicts.iter().filter_map(|(test, verdict)| match verdict {
        Verdict::Failed(said) => Some((test, said)),
        Verdict::Passed | Verdict::Skipped(_) => None,
    });
    failed
        .inspect(|(test, said)| eprintln!("=== {test} failed\n{said}"))
        .count()
}

fn skips(verdicts: &Verdicts) -> BTreeMap<&str, &[String]> {
    let skips = verdicts.iter().filter_map(|(test, verdict)| match verdict {
        Verdict::Skipped(reasons) => Some((test.as_str(), reasons.as_slice())),
        Verdict::Passed | Verdict::Failed(_) => None,
    });
    skips.collect()
}

/// What the page allows and what was left out must be the same.
fn check_skips(skips: &BTreeMap<&str, &[String]>) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/iscsi-suite.md");
    let page = std::fs::read_to_string(page).expect("the page of skips");
    let allowed: BTreeMap<_, _> = suite::allowed_skips(&page).into_iter().collect();
    assert!(
        allowed.len() <= MOST_SKIPS,
        "{} skips allowed",
        allowed.len()
    );
    let unexplained: Vec<_> = skips
        .iter()
        .filter(|(test, _)| !allowed.contains_key(**test))
        .collect();
    assert!(unexplained.is_empty(), "left out: {unexplained:#?}");
    let stale: Vec<_> = allowed
        .keys()
        .filter(|test| !skips.contains_key(test.as_str()))
        .collect();
    assert!(stale.is_empty(), "the page names tests that ran: {stale:?}");
}

#[test]
fn every_test_passes() {
    let mut server = serve();
    let verdicts = run_all(&server);
    let (failed, skips) = (failures(&verdicts), skips(&verdicts));
    let passed = verdicts.len() - failed - skips.len();
    println!(
        "{} tests: {passed} passed, {failed} failed, {} left out",
        verdicts.len(),
        skips.len()
    );
    assert_eq!(failed, 0, "tests failed, see above");
    check_skips(&skips);
    assert_eq!(
        verdicts.len(),
        230,
        "another release of the suite: look at its new tests"
    );
    server.terminate();
}
