//! What the kernel says about a process.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A running process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
}

impl Process {
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).expect("a process id"));
        kill(pid, signal).expect("the process is there");
    }

    /// CPU time of all its threads, user and system.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = self.read("stat");
        // The name in parentheses may hold blanks: fields count from the last parenthesis.
        let after = stat.rsplit(')').next().expect("a name in parentheses");
        let fields: Vec<&str> = after.split_whitespace().collect();
        // Fields 14 and 15 of the whole line; the first after the name is field 3.
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|f| f.parse::<u64>().expect("ticks"))
            .sum();
        let rate = sysconf(SysconfVar::CLK_TCK)
            .ok()
            .flatten()
            .expect("a clock rate");
        Duration::from_secs_f64(ticks as f64 / rate as f64)
    }

    /// Resident memory in bytes, with the huge pages that the kernel counts apart.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        (self.status_kib("VmRSS:") + self.status_kib("HugetlbPages:")) * 1024
    }

    /// Most resident memory so far, in bytes.
    #[must_use]
    pub fn resident_peak_bytes(&self) -> u64 {
        self.status_kib("VmHWM:") * 1024
    }

    /// Makes the present resident memory the peak.
    pub fn reset_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.pid);
        std::fs::write(path, "5").expect("the peak can be reset");
    }

    /// Bytes that it had the kernel write to devices. Writes through the page cache count when they
    /// dirty a page; writes to a file system without a device do not count.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let counters = self.read("io");
        let key = "\nwrite_bytes: ";
        let value = counters
            .split_once(key)
            .and_then(|(_, rest)| rest.lines().next());
        value
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or_else(|| panic!("write_bytes in {counters}"))
    }

    /// Open file descriptors.
    #[must_use]
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid))
            .expect("descriptors")
            .count()
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        kib.and_then(|kib| kib.parse().ok())
            .unwrap_or_else(|| panic!("{key} in {status}"))
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}
