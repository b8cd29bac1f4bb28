//! Whether the machine has the memory that pools in memory are promised.
//!
//! Such a pool takes its memory when hosts write. Without this check a pool that is too large would
//! start well and be killed by the kernel in the middle of a measurement.

use std::fs;
use std::path::{Path, PathBuf};

use config::{ByteSize, Config, PoolPlace};

use crate::output::bytes;

/// More memory asked for than there is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "[[pool]] memory: the pools in memory take {pools} and the buffers of {cores} cores {buffers}, \
     but the machine has {} available; give the pools less `memory`, or free some",
    bytes(*.available_bytes)
)]
pub struct TooLittle {
    pools: ByteSize,
    cores: usize,
    buffers: ByteSize,
    available_bytes: u64,
}

/// Refuses a configuration whose pools in memory do not fit beside the buffers of its cores.
///
/// Says nothing when no pool is in memory, or when the machine does not tell what it has.
pub fn check(config: &Config, core_count: usize) -> Result<(), TooLittle> {
    available_bytes().map_or(Ok(()), |available| fits(config, core_count, available))
}

fn fits(config: &Config, cores: usize, available_bytes: u64) -> Result<(), TooLittle> {
    let in_memory = config.pools.iter().filter_map(|pool| match pool.place {
        PoolPlace::Memory { memory } => Some(memory.bytes()),
        PoolPlace::Path { .. } => None,
    });
    // No overflow: at most 64 pools of 1 TiB and 1024 cores with 64 GiB.
    let pools: u64 = in_memory.sum();
    let buffers = config.reactor.memory.bytes() * cores as u64;
    if pools == 0 || pools + buffers <= available_bytes {
        return Ok(());
    }
    Err(TooLittle {
        pools: ByteSize::from_bytes(pools),
        cores,
        buffers: ByteSize::from_bytes(buffers),
        available_bytes,
    })
}

/// What this process can still take without another losing it: what the kernel estimates, free huge
/// pages beside that, and no more than the control groups it is in allow.
fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = machine_bytes(&meminfo)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = group_bytes(&groups, Path::new("/sys/fs/cgroup"));
    Some(allowed.map_or(machine, |allowed| machine.min(allowed)))
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let huge_kib = field("HugePages_Free:").unwrap_or(0) * field("Hugepagesize:").unwrap_or(0);
    Some((field("MemAvailable:")? + huge_kib) * 1024)
}

/// The least that any of the groups has left. `groups` is the text of `/proc/self/cgroup`, of which
/// only the line of the unified hierarchy counts.
fn group_bytes(groups: &str, mount: &Path) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own: PathBuf = mount.join(group);
    let up = own.ancestors().take_while(|path| path.starts_with(mount));
    up.filter_map(left_in).min()
}

/// None where there is no limit ("max"), or no such file: the root of the hierarchy has none.
fn left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(group.join(name)).ok()?;
        text.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pools: &str) -> Config {
        let text = format!("[reactor]\nmemory = '32MiB'\n{pools}");
        Config::parse(&text, "t").unwrap()
    }

    #[test]
    fn pools_in_memory_and_buffers_have_to_fit_together() {
        let two = "[[pool]]\nname='a'\nmemory='64MiB'\n[[pool]]\nname='b'\nmemory='1GiB'\n";
        let needed = (64 << 20) + (1 << 30) + 2 * (32 << 20);
        assert_eq!(fits(&config(two), 2, needed), Ok(()));
        let error = fits(&config(two), 2, needed - 1).unwrap_err().to_string();
        for part in ["take 1088MiB", "2 cores 64MiB", "less `memory`"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn pools_elsewhere_are_not_counted() {
        let file = "[[pool]]\nname='a'\npath='a'\nsize='1TiB'\n";
        assert_eq!(fits(&config(file), 1024, 0), Ok(()));
    }

    #[test]
    fn the_machine_tells_what_it_has() {
        let meminfo = "MemTotal: 1000 kB\nMemAvailable:    600 kB\nHugePages_Free:        3\n\
                       Hugepagesize:       2048 kB\n";
        assert_eq!(machine_bytes(meminfo), Some((600 + 3 * 2048) * 1024));
        assert_eq!(machine_bytes("MemAvailable: 5 kB\n"), Some(5 * 1024));
        for strange in ["", "MemAvailable:\n", "MemAvailable: x kB\n"] {
            assert_eq!(machine_bytes(strange), None, "{strange:?}");
        }
        assert!(available_bytes().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn the_tightest_group_counts() {
        let mount = std::env::temp_dir().join(format!("bedplate-groups-{}", std::process::id()));
        let inner = mount.join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        let write = |path: PathBuf, text: &str| fs::write(path, text).unwrap();
        write(mount.join("outer/memory.max"), "1000\n");
        write(mount.join("outer/memory.current"), "400\n");
        write(inner.join("memory.max"), "max\n");
        write(inner.join("memory.current"), "300\n");
        assert_eq!(group_bytes("1:x:/\n0::/outer/inner\n", &mount), Some(600));
        write(inner.join("memory.max"), "350\n");
        assert_eq!(group_bytes("0::/outer/inner\n", &mount), Some(50));
        write(inner.join("memory.current"), "351\n");
        assert_eq!(group_bytes("0::/outer/inner\n", &mount), Some(0));
        assert_eq!(group_bytes("0::/\n", &mount), None, "no limit at the root");
        assert_eq!(group_bytes("5:memory:/outer\n", &mount), None);
        fs::remove_dir_all(&mount).unwrap();
    }
}
