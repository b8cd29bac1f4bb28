//! What a comparison measures, and on what.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::results::Side;
use crate::{Error, Result};

/// The case of pgbench, beside those that are named like their fio job.
pub(super) const PGBENCH: &str = "pgbench";
/// Room in the pool beside the volume for its journal and map, and half the volume more for what
/// redirect-on-write keeps a while.
const POOL_ROOM_MIB: u64 = 256;

/// What pgbench's tables take of the volume for each unit of its scale, MiB.
const SCALE_MIB: u64 = 16;
/// What PostgreSQL's log and the rest of its folder take while the tables are filled, MiB.
const PG_LOG_MIB: u64 = 480;

/// Every setting of a comparison. [`Plan::from_environment`] tells which variable is which.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// By what the host reaches both targets: `tcp`, or `rdma` on soft RoCE.
    pub transport: String,
    /// Rounds; each measures every case on both sides, one right after the other.
    pub rounds: u32,
    /// Jobs of `perf/fio`, without `.fio`.
    pub fio_jobs: Vec<String>,
    /// Seconds of each job that count.
    pub fio_s: u32,
    /// Seconds of each job before them.
    pub fio_ramp_s: u32,
    /// Jobs of `iops-read` and `iops-write`, each with 32 in flight.
    pub fio_threads: u32,
    /// Seconds of each run of pgbench; 0 leaves pgbench out.
    pub pg_s: u32,
    /// Seconds of each run before them.
    pub pg_warmup_s: u32,
    /// Scale of the tables.
    pub pg_scale: u32,
    /// Clients at a time.
    pub pg_clients: u32,
    /// What either side exports, MiB.
    pub volume_mib: u32,
    /// `[reactor] cores` of ours, or `default`.
    pub cores: String,
    /// Processors of the guest that fio and PostgreSQL may use.
    pub load_cpus: String,
    /// `[reactor] spin` of ours, or `default`.
    pub spin: String,
    /// Whether to keep a profile of both processors of each turn.
    pub profile: bool,
    /// Whether the sides change disks.
    pub swap: bool,
    /// The guest's processor, as QEMU's `-cpu` takes it.
    pub cpu: String,
    /// Folder of the files behind both disks; none is the folder of the run.
    pub disks: Option<PathBuf>,
    /// QEMU's `cache` of both disks.
    pub cache: String,
    /// The guest's memory, MiB.
    pub memory_mib: u32,
}

impl Default for Plan {
    fn default() -> Self {
        let jobs = [
            "iops-write",
            "iops-read",
            "latency-write",
            "latency-read",
            "commit",
        ];
        Self {
            transport: "tcp".to_owned(),
            rounds: 3,
            fio_jobs: jobs.map(str::to_owned).to_vec(),
            fio_s: 8,
            fio_ramp_s: 2,
            fio_threads: 1,
            pg_s: 30,
            pg_warmup_s: 5,
            pg_scale: 10,
            pg_clients: 4,
            volume_mib: 1536,
            cores: "default".to_owned(),
            load_cpus: "0-1".to_owned(),
            spin: "default".to_owned(),
            profile: false,
            swap: false,
            cpu: "max".to_owned(),
            disks: None,
            cache: "none".to_owned(),
            memory_mib: 3072,
        }
    }
}

impl Plan {
    /// The default plan, changed by variables of the environment: `VM_PERF_` and the name of the
    /// field in capitals. `VM_PERF_FIO_JOBS` has commas between the jobs, or is `none`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value that means nothing.
    pub fn from_environment() -> Result<Self> {
        let mut plan = Self::default();
        set("VM_PERF_TRANSPORT", &mut plan.transport)?;
        set("VM_PERF_ROUNDS", &mut plan.rounds)?;
        set("VM_PERF_FIO_S", &mut plan.fio_s)?;
        set("VM_PERF_FIO_RAMP_S", &mut plan.fio_ramp_s)?;
        set("VM_PERF_FIO_THREADS", &mut plan.fio_threads)?;
        set("VM_PERF_PG_S", &mut plan.pg_s)?;
        set("VM_PERF_PG_WARMUP_S", &mut plan.pg_warmup_s)?;
        set("VM_PERF_PG_SCALE", &mut plan.pg_scale)?;
        set("VM_PERF_PG_CLIENTS", &mut plan.pg_clients)?;
        set("VM_PERF_VOLUME_MIB", &mut plan.volume_mib)?;
        set("VM_PERF_MEMORY_MIB", &mut plan.memory_mib)?;
        set("VM_PERF_PROFILE", &mut plan.profile)?;
        set("VM_PERF_SWAP", &mut plan.swap)?;
        set("VM_PERF_CORES", &mut plan.cores)?;
        set("VM_PERF_LOAD_CPUS", &mut plan.load_cpus)?;
        set("VM_PERF_SPIN", &mut plan.spin)?;
        set("VM_PERF_CPU", &mut plan.cpu)?;
        set("VM_PERF_CACHE", &mut plan.cache)?;
        plan.disks = std::env::var_os("VM_PERF_DISKS").map(PathBuf::from);
        let mut jobs = plan.fio_jobs.join(",");
        set("VM_PERF_FIO_JOBS", &mut jobs)?;
        plan.fio_jobs = match jobs.as_str() {
            "none" => Vec::new(),
            jobs => jobs.split(',').map(str::to_owned).collect(),
        };
        plan.check()?;
        Ok(plan)
    }

    /// Refuses what would fail minutes later.
    fn check(&self) -> Result<()> {
        if !["tcp", "rdma"].contains(&self.transport.as_str()) {
            return Err(Error::Setting {
                name: "VM_PERF_TRANSPORT",
                value: self.transport.clone(),
                expected: "tcp or rdma",
            });
        }
        let tables_mib = u64::from(self.pg_scale) * SCALE_MIB;
        if self.pg_s > 0 && u64::from(self.volume_mib) < tables_mib + PG_LOG_MIB {
            return Err(Error::Setting {
                name: "VM_PERF_VOLUME_MIB",
                value: self.volume_mib.to_string(),
                expected: "at least 480, and 16 more for each VM_PERF_PG_SCALE: the log and the \
                           tables of pgbench, which VM_PERF_PG_S=0 leaves out",
            });
        }
        Ok(())
    }

    /// The words for `guest/perf.sh`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let jobs = match self.fio_jobs.as_slice() {
            [] => "none".to_owned(),
            jobs => jobs.join(","),
        };
        vec![
            format!("TRANSPORT={}", self.transport),
            format!("ROUNDS={}", self.rounds),
            format!("FIO_JOBS={jobs}"),
            format!("FIO_S={}", self.fio_s),
            format!("FIO_RAMP_S={}", self.fio_ramp_s),
            format!("FIO_THREADS={}", self.fio_threads),
            format!("PG_S={}", self.pg_s),
            format!("PG_WARMUP_S={}", self.pg_warmup_s),
            format!("PG_SCALE={}", self.pg_scale),
            format!("PG_CLIENTS={}", self.pg_clients),
            format!("VOL_MIB={}", self.volume_mib),
            format!("CORES={}", self.cores),
            format!("LOAD_CPUS={}", self.load_cpus),
            format!("SPIN={}", self.spin),
            format!("PROFILE={}", yes_or_no(self.profile)),
            format!("SWAP={}", yes_or_no(self.swap)),
        ]
    }

    /// All of it in one line, as the guest is told it.
    #[must_use]
    pub fn describe(&self) -> String {
        let disks = match &self.disks {
            Some(dir) => dir.display().to_string(),
            None => "the folder of the run".to_owned(),
        };
        format!(
            "{} CPU={} MEMORY_MIB={} CACHE={} DISKS={disks}",
            self.arguments().join(" "),
            self.cpu,
            self.memory_mib,
            self.cache
        )
    }

    /// Size of each disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let volume_mib = u64::from(self.volume_mib);
        (volume_mib + volume_mib / 2 + POOL_ROOM_MIB) << 20
    }

    /// When the guest gives itself up.
    pub(super) fn limit(&self) -> Duration {
        let jobs = u64::try_from(self.fio_jobs.len()).unwrap_or(u64::MAX);
        let fio = jobs * u64::from(self.fio_s + self.fio_ramp_s);
        let pgbench = u64::from(self.pg_s + self.pg_warmup_s);
        // Start, end and rest of each turn are several times as long as a short turn itself.
        Duration::from_secs(900 + 2 * u64::from(self.rounds) * (fio + 30 * jobs + 2 * pgbench + 60))
    }

    /// The names of what is measured.
    pub(super) fn cases(&self) -> Vec<String> {
        let pgbench = (self.pg_s > 0).then(|| PGBENCH.to_owned());
        self.fio_jobs.iter().cloned().chain(pgbench).collect()
    }

    /// Round, case and side of every result, in the order in which the guest makes them.
    pub(super) fn order(&self) -> Vec<(u32, String, Side)> {
        let mut order = Vec::new();
        let (fio, pgbench): (Vec<_>, Vec<_>) =
            self.cases().into_iter().partition(|case| case != PGBENCH);
        for cases in [fio, pgbench] {
            for round in 1..=self.rounds {
                let sides = if round % 2 == 1 {
                    [Side::Ours, Side::Nvmet]
                } else {
                    [Side::Nvmet, Side::Ours]
                };
                for case in &cases {
                    order.extend(sides.map(|side| (round, case.clone(), side)));
                }
            }
        }
        order
    }
}

fn yes_or_no(set: bool) -> &'static str {
    if set { "yes" } else { "no" }
}

/// Sets `field` to what the variable `name` says, if it is there.
fn set<T: FromStr>(name: &'static str, field: &mut T) -> Result<()> {
    let Ok(value) = std::env::var(name) else {
        return Ok(());
    };
    // The words go to the guest on its kernel's command line, where a blank would split them.
    let parsed = (!value.contains(char::is_whitespace)).then(|| value.parse().ok());
    *field = parsed.flatten().ok_or(Error::Setting {
        name,
        value,
        expected: "one word: a whole number, true or false, or a name; see tests/vm/README.md",
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_pgbench_would_overflow_is_refused_at_the_start() {
        let plan = |volume_mib, pg_s| Plan {
            volume_mib,
            pg_s,
            ..Plan::default()
        };
        for fits in [Plan::default(), plan(640, 10), plan(64, 0)] {
            assert!(fits.check().is_ok(), "{fits:?}");
        }
        let error = plan(639, 10).check().expect_err("too small").to_string();
        assert!(error.contains("VM_PERF_VOLUME_MIB is \"639\""), "{error}");
    }

    #[test]
    fn the_sides_take_turns_at_going_first_and_pgbench_comes_last() {
        let plan = Plan {
            rounds: 2,
            fio_jobs: vec!["a".to_owned(), "b".to_owned()],
            ..Plan::default()
        };
        let order: Vec<String> = plan
            .order()
            .into_iter()
            .map(|(round, case, side)| format!("{round} {case} {}", side.name()))
            .collect();
        assert_eq!(
            order,
            [
                "1 a ours",
                "1 a nvmet",
                "1 b ours",
                "1 b nvmet",
                "2 a nvmet",
                "2 a ours",
                "2 b nvmet",
                "2 b ours",
                "1 pgbench ours",
                "1 pgbench nvmet",
                "2 pgbench nvmet",
                "2 pgbench ours",
            ]
        );
    }

    #[test]
    fn nothing_is_said_of_what_is_left_out() {
        let plan = Plan {
            fio_jobs: Vec::new(),
            pg_s: 0,
            ..Plan::default()
        };
        assert!(plan.order().is_empty());
        assert!(plan.arguments().contains(&"FIO_JOBS=none".to_owned()));
    }
}
