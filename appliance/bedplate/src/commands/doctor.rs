//! `bedplate doctor`: what of this machine helps or limits the appliance, in plain words.

mod rdma;
mod rdma_ports;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use config::{ByteSize, ChapSecrets, Config, IscsiConfig, PoolConfig, PoolPlace};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::cli::Output;
use crate::output::{bytes, print, table};
use crate::serve::{memory, plan};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with less speed or room than could be.
    Note,
    /// The server would not start or would soon fail.
    Problem,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, and what to do where it is not `ok`.
    pub detail: String,
}

impl Check {
    fn new(check: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Check {
        Check {
            check: check.into(),
            verdict,
            detail: detail.into(),
        }
    }
}

/// Prints the report. True when there is no problem.
pub fn run(config: Option<&Path>, output: Output) -> bool {
    let mut checks = machine();
    match config.map(Config::load) {
        Some(Ok(config)) => checks.extend(configured(&config)),
        Some(Err(e)) => checks.push(Check::new("configuration", Verdict::Problem, e.to_string())),
        None => checks.push(rdma::unused(&rdma::Machine::here())),
    }
    print(output, &checks, |checks| text(checks));
    checks.iter().all(|c| c.verdict != Verdict::Problem)
}

fn text(checks: &[Check]) -> String {
    let word = |v: Verdict| match v {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Problem => "PROBLEM",
    };
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|c| vec![word(c.verdict).into(), c.check.clone(), c.detail.clone()])
        .collect();
    table(&["", "CHECK", "FOUND"], &rows)
}

fn machine() -> Vec<Check> {
    let mut checks = vec![kernel(), cpus(), open_files(), huge_pages()];
    checks.extend(io_uring());
    checks
}

fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Check::new("kernel", Verdict::Ok, format!("Linux {}", release.trim()))
}

fn cpus() -> Check {
    match plan::available_cpus() {
        Ok(cpus) if cpus.len() > 1 => {
            let text = format!(
                "{} CPUs for this process, one stays free by default",
                cpus.len()
            );
            Check::new("cpus", Verdict::Ok, text)
        }
        Ok(_) => {
            let text = "one CPU only: data core, kernel and management share it";
            Check::new("cpus", Verdict::Note, text)
        }
        Err(e) => Check::new("cpus", Verdict::Problem, e.to_string()),
    }
}

/// Each connection takes a descriptor; a thousand and some are needed with the default limits.
fn open_files() -> Check {
    const WANTED: u64 = 4096;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft.max(hard) < WANTED => {
            let text = format!("limit {soft}: raise it to {WANTED} (ulimit -n, LimitNOFILE=)");
            Check::new("open files", Verdict::Note, text)
        }
        Ok((soft, _)) => Check::new("open files", Verdict::Ok, format!("limit {soft}")),
        Err(e) => Check::new("open files", Verdict::Note, format!("cannot be read: {e}")),
    }
}

fn huge_pages() -> Check {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = text
        .lines()
        .find_map(|l| l.strip_prefix("HugePages_Free:"))
        .and_then(|v| v.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let detail = match free {
        0 => "none reserved: plain memory is used, which is fine".to_string(),
        n => format!("{n} free: buffers will use them"),
    };
    Check::new("huge pages", Verdict::Ok, detail)
}

fn io_uring() -> Vec<Check> {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    if disabled.trim() == "2" {
        let text = "switched off: set /proc/sys/kernel/io_uring_disabled to 0";
        return vec![Check::new("io_uring", Verdict::Problem, text)];
    }
    let found = reactor::cores::probe();
    let verdict = |available| {
        if available {
            Verdict::Ok
        } else {
            Verdict::Note
        }
    };
    found
        .into_iter()
        .map(|f| {
            Check::new(
                format!("io_uring {}", f.name),
                verdict(f.available),
                f.detail,
            )
        })
        .collect()
}

fn configured(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    match plan::plan(config) {
        Ok(plans) => checks.extend(memory::check(config, plans.len()).err().map(|e| {
            let name = "pools in memory";
            Check::new(name, Verdict::Problem, e.to_string())
        })),
        Err(e) => checks.push(Check::new(
            "[reactor] cores",
            Verdict::Problem,
            e.to_string(),
        )),
    }
    checks.extend(config.pools.iter().map(pool));
    checks.extend(nvme_rdma(config));
    let iscsi = config.iscsi.iter().flat_map(|iscsi| &iscsi.listen);
    checks.extend(config.iscsi.iter().filter_map(secrets));
    let metrics = config.metrics.listen.iter();
    checks.extend(
        config
            .nvme_tcp
            .listen
            .iter()
            .chain(iscsi)
            .chain(metrics)
            .map(|a| listen(*a)),
    );
    checks
}

/// What NVMe/RDMA needs; one line where it is not asked for.
fn nvme_rdma(config: &Config) -> Vec<Check> {
    let here = rdma::Machine::here();
    let Some(wanted) = &config.nvme_rdma else {
        return vec![rdma::unused(&here)];
    };
    // Cores that cannot be had are a problem of their own.
    let cores = plan::plan(config).map_or(1, |plans| plans.len());
    rdma::configured(&here, wanted, config, cores)
}

/// Whether the secrets that iSCSI hosts log in with can be used.
fn secrets(iscsi: &IscsiConfig) -> Option<Check> {
    let path = iscsi.secrets.as_ref()?;
    let (verdict, detail) = match ChapSecrets::load(path) {
        Ok(secrets) => (
            Verdict::Ok,
            format!("{} initiators", secrets.initiators.len()),
        ),
        Err(e) => (Verdict::Problem, e.to_string()),
    };
    Some(Check::new("[iscsi] secrets", verdict, detail))
}

fn pool(pool: &PoolConfig) -> Check {
    let (verdict, detail) = match &pool.place {
        PoolPlace::Path { path, size } => pool_at_path(path, *size),
        PoolPlace::Memory { memory } => (
            Verdict::Note,
            format!("{memory} of memory: it keeps nothing, its volumes are empty at every start"),
        ),
    };
    Check::new(format!("pool {}", pool.name), verdict, detail)
}

fn pool_at_path(path: &Path, size: Option<ByteSize>) -> (Verdict, String) {
    match fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => block_device(path),
        Ok(found) if found.file_type().is_char_device() => {
            let path = path.display();
            (
                Verdict::Ok,
                format!("NVMe generic device {path}: commands go past the block layer"),
            )
        }
        Ok(found) if found.is_file() => (Verdict::Ok, format!("file of {}", bytes(found.len()))),
        Ok(_) => (
            Verdict::Problem,
            "neither a file nor a block device: change `path`".into(),
        ),
        Err(e) if e.kind() == io::ErrorKind::NotFound => missing_pool(path, size),
        Err(e) => (Verdict::Problem, format!("{}: {e}", path.display())),
    }
}

fn block_device(path: &Path) -> (Verdict, String) {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let device = real.to_string_lossy();
    match mounts
        .lines()
        .find(|l| l.split(' ').next() == Some(&device))
    {
        Some(line) => {
            let place = line.split(' ').nth(1).unwrap_or("?");
            (
                Verdict::Problem,
                format!("{device} is mounted on {place}: choose another device"),
            )
        }
        None => (Verdict::Ok, format!("block device {device}")),
    }
}

fn missing_pool(path: &Path, size: Option<ByteSize>) -> (Verdict, String) {
    let Some(size) = size else {
        let text = format!(
            "{} is missing and has no `size` to make it with",
            path.display()
        );
        return (Verdict::Problem, text);
    };
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match statvfs(folder) {
        Err(e) => (
            Verdict::Problem,
            format!("folder {}: {e}: make it", folder.display()),
        ),
        Ok(fs) => {
            let free = fs.blocks_available() * fs.fragment_size();
            if free < size.bytes() {
                let have = bytes(free);
                (
                    Verdict::Problem,
                    format!("needs {size}, {} has {have}", folder.display()),
                )
            } else {
                (
                    Verdict::Ok,
                    format!("will be made with {size} in {}", folder.display()),
                )
            }
        }
    }
}

fn listen(address: SocketAddr) -> Check {
    let name = format!("listen {address}");
    match TcpListener::bind(address) {
        Ok(_) => Check::new(name, Verdict::Ok, "free"),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            let text = "in use: by a running server, or choose another port";
            Check::new(name, Verdict::Problem, text)
        }
        Err(e) => Check::new(name, Verdict::Problem, e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_at(path: &str) -> PoolConfig {
        let text = format!("[[pool]]\nname='p'\npath='{path}'\nsize='64MiB'\n");
        Config::parse(&text, "t").unwrap().pools.remove(0)
    }

    #[test]
    fn a_port_in_use_is_a_problem_and_a_free_one_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(listen(address).verdict, Verdict::Problem);
        drop(taken);
        assert_eq!(listen(address).verdict, Verdict::Ok);
    }

    #[test]
    fn a_missing_folder_is_a_problem_that_names_it() {
        let check = pool(&pool_at("/nonexistent/folder/p"));
        assert_eq!(check.verdict, Verdict::Problem);
        assert!(check.detail.contains("/nonexistent/folder"), "{check:?}");
    }

    #[test]
    fn a_pool_in_memory_is_noted_and_more_than_there_is_is_a_problem() {
        let in_memory = |size: &str| {
            let text = format!("[[pool]]\nname='ram'\nmemory='{size}'\n");
            Config::parse(&text, "t").unwrap()
        };
        let check = pool(&in_memory("64MiB").pools[0]);
        assert_eq!(check.verdict, Verdict::Note);
        assert!(check.detail.contains("keeps nothing"), "{check:?}");
        let mut config = in_memory("1TiB");
        config.pools = vec![config.pools.remove(0); 64];
        let checks = configured(&config);
        let problem = checks.iter().find(|c| c.check == "pools in memory");
        assert_eq!(problem.expect("64 TiB").verdict, Verdict::Problem);
    }

    #[test]
    fn every_machine_check_says_something() {
        for check in machine() {
            assert!(!check.detail.is_empty(), "{check:?}");
        }
    }
}
