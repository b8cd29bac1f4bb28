//! Where things are: the repository, the target folder, the binaries, the logs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Error, Result};

/// The top folder of the repository.
pub(crate) fn repository() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir
        .ancestors()
        .nth(2)
        .unwrap_or(crate_dir)
        .to_path_buf()
}

/// Cargo's target folder: the one this test was built into, with the binaries beside it.
pub(crate) fn target_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR") {
        return repository().join(dir);
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let built_into = exe
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists());
    built_into.map_or_else(|| repository().join("target"), Path::to_path_buf)
}

/// An empty folder for one run; what an earlier run left there is removed.
///
/// It lies in the target folder and not in `/tmp`: a pool is opened with O_DIRECT, which tmpfs
/// refuses on many kernels. It is kept after the run, because it holds the logs.
///
/// # Errors
/// When it cannot be emptied or made.
pub(crate) fn run_dir(name: &str) -> Result<PathBuf> {
    let dir = target_dir().join("vm/run").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(Error::io("empty", &dir))?;
    }
    std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    Ok(dir)
}

/// The `bedplate` binary: `BEDPLATE_BIN`, or the one built last.
///
/// # Errors
/// When there is none.
pub(crate) fn bedplate() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BEDPLATE_BIN") {
        let path = repository().join(path);
        return exists(path, "BEDPLATE_BIN names a file that is not there");
    }
    let built = ["release", "debug"].map(|profile| target_dir().join(profile).join("bedplate"));
    let age = |path: &PathBuf| {
        let modified = path.metadata().and_then(|meta| meta.modified()).ok();
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let newest = built.into_iter().max_by_key(age).unwrap_or_default();
    exists(
        newest,
        "build it first (cargo build --release --bin bedplate) or set BEDPLATE_BIN",
    )
}

/// The program `bedplate-perf`, beside the `bedplate` that is tested.
///
/// # Errors
/// When it is not there.
pub fn bedplate_perf() -> Result<PathBuf> {
    exists(
        bedplate()?.with_file_name("bedplate-perf"),
        "build it beside bedplate (cargo build --release -p bedplate-perf)",
    )
}

fn exists(path: PathBuf, remedy: &str) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Missing {
        what: path.display().to_string(),
        remedy: remedy.to_owned(),
    })
}
