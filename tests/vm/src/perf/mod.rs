//! Ours against the kernel's own target, both in one VM, in alternating rounds.
//!
//! * [`Plan`]: what is measured and on what; every setting is here;
//! * [`run`]: boots the VM on `guest/perf.sh` and takes in the results;
//! * `results`: figures out of the files of fio and pgbench;
//! * `table`: ratios of the rounds.

mod plan;
mod results;
mod table;

use std::fs::{File, create_dir_all};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use plan::Plan;
pub use results::{Side, Turn};
pub use table::{Case, Ratio, render};

use crate::{Disk, Error, Hardware, Result, Vm, paths};

/// Else the kernel does not trust the emulated TSC and reads the time from an emulated HPET, at the
/// price of a trap under QEMU's global lock each time: it would measure who asks for the time least.
const CLOCK: &str = "tsc=reliable clocksource=tsc";
/// Longest time between two results: pgbench fills its tables, or both volumes are filled.
const PATIENCE: Duration = Duration::from_secs(900);

/// Boots the VM, measures what `plan` says and gives the ratios of each case, in the order of the
/// plan. `progress` is told of each result as it comes.
///
/// Everything the guest measured is left in `target/vm/run/NAME/results`, with the table in
/// `summary.txt`, beside the logs; the disks are removed. Takes minutes: about four times the seconds that the plan measures.
///
/// # Errors
/// When something is missing, the guest script fails, or a result cannot be understood.
pub fn run(name: &str, plan: &Plan, mut progress: impl FnMut(&Turn)) -> Result<Vec<Case>> {
    let dir = paths::run_dir(name)?;
    let results = dir.join("results");
    create_dir_all(&results).map_err(Error::io("make", &results))?;
    let disks = ["disk-a", "disk-b"].map(|serial| Disk {
        serial,
        path: plan
            .disks
            .as_ref()
            .unwrap_or(&dir)
            .join(format!("{serial}.img")),
        cache: plan.cache.clone(),
    });
    let hardware = Hardware {
        memory_mib: plan.memory_mib,
        cpu: plan.cpu.clone(),
        disks: disks.to_vec(),
        kernel: CLOCK.to_owned(),
        shared: Some(results.clone()),
    };
    let mut arguments = plan.arguments();
    arguments.push(format!("BEDPLATE={}", paths::bedplate()?.display()));
    let measured = disks
        .iter()
        .try_for_each(|disk| make_disk(&disk.path, plan.disk_bytes()))
        .and_then(|()| Vm::boot_on(&hardware, &dir, "perf.sh", &arguments, plan.limit()))
        .and_then(|mut vm| follow(&mut vm, plan, &results, &mut progress));
    for disk in &disks {
        // Only space is lost when it is not there to be removed, or stays.
        let _ = std::fs::remove_file(&disk.path);
    }
    let turns = measured?;
    let of_case = |case: &String| Case::new(case, &turns);
    let cases: Vec<Case> = plan.cases().iter().map(of_case).collect();
    let summary = results.join("summary.txt");
    let text = format!("{}\n\n{}", plan.describe(), render(&cases));
    std::fs::write(&summary, text).map_err(Error::io("write", &summary))?;
    Ok(cases)
}

/// Takes in every turn as the guest says that its files are there.
fn follow(
    vm: &mut Vm,
    plan: &Plan,
    results: &Path,
    progress: &mut impl FnMut(&Turn),
) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for (round, case, side) in plan.order() {
        vm.expect("measured", PATIENCE)?;
        let dir: PathBuf = [&format!("round-{round}"), &case, side.name()]
            .iter()
            .fold(results.to_path_buf(), |dir, part| dir.join(part));
        let turn = Turn::read(round, &case, side, &dir)?;
        progress(&turn);
        turns.push(turn);
    }
    vm.finish(PATIENCE)?;
    Ok(turns)
}

/// A file of `bytes`, all written: a hole would be filled while somebody waits for a write.
fn make_disk(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("make", path))?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&zeros).map_err(Error::io("fill", path))?;
    }
    file.sync_all().map_err(Error::io("sync", path))
}
