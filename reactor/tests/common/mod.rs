//! What the tests on the real kernel share.
#![allow(dead_code, reason = "not every test file uses everything")]

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use reactor::Spin;
use reactor::cores::{self, CoreConfig};
use reactor::time::timeout;

/// A small core that parks soon.
pub fn config(name: &str) -> CoreConfig {
    CoreConfig {
        cpu: None,
        spin: Spin::For(Duration::from_micros(20)),
        io_pool_bytes: 8 << 20,
        engine_pool_bytes: 4 << 20,
        name: name.to_owned(),
    }
}

/// Runs `main` on a core of this thread; fails after 20 s.
pub fn run<F, T>(main: impl FnOnce() -> F + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let limited = || async move { timeout(Duration::from_secs(20), main()).await };
    cores::run(config("test"), limited)
        .expect("the core runs")
        .expect("the test ends within 20 s")
}

/// A folder of this test alone, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        // Not in /tmp, which may be a memory file system without direct I/O.
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
