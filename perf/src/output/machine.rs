//! The machine that the client ran on: a result without it says little.

use serde::Serialize;

/// Kernel, processor, cores.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Load average over one minute when the run ended: other work disturbs the result.
    pub load_average: f64,
}

impl Machine {
    /// This machine; what cannot be read is said to be unknown.
    pub fn this() -> Self {
        let cores = std::thread::available_parallelism();
        Self {
            kernel: first_line("/proc/sys/kernel/osrelease"),
            cpu: cpu(),
            cores: cores.map_or(0, usize::from),
            load_average: first_line("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match text.lines().next() {
        Some(line) => line.trim().to_owned(),
        None => "unknown".to_owned(),
    }
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}
