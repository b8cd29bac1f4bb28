//! Commands that ask the running server: volume, status, connect-info.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use control::client::{Client, ClientError};
use control::model::{
    Cleared, ConnectInfo, CoreConnections, CoreStatus, CreateVolume, Deleted, PoolStatus, Status,
    Transport, VolumeStatus,
};

use crate::cli::{Output, VolumeCommand, VolumeCreate};
use crate::output::{bytes, fields, percent, print, table};

/// Runs one client command to its end on a small runtime of its own.
pub fn run<T>(task: impl Future<Output = Result<T, ClientError>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(task)?)
}

/// `bedplate volume ...`
pub fn volume(client: &Client, command: VolumeCommand, output: Output) -> anyhow::Result<()> {
    match command {
        VolumeCommand::Create(create) => {
            let made: VolumeStatus = run(client.post("/v1/volumes", &request(create)))?;
            print(output, &made, volume_text);
        }
        VolumeCommand::List => {
            let all: Vec<VolumeStatus> = run(client.get("/v1/volumes"))?;
            print(output, &all, |all| volumes_text(all));
        }
        VolumeCommand::Show { name } => {
            let one: VolumeStatus = run(client.get(&path(&name, "")))?;
            print(output, &one, volume_text);
        }
        VolumeCommand::ClearReservations { name } => {
            let cleared: Cleared = run(client.delete(&path(&name, "/reservations")))?;
            print(output, &cleared, |cleared| {
                format!(
                    "cleared {} registrations of {}\n",
                    cleared.registrants, cleared.name
                )
            });
        }
        VolumeCommand::Delete { name, yes } => delete(client, &name, yes, output)?,
    }
    Ok(())
}

fn request(create: VolumeCreate) -> CreateVolume {
    CreateVolume {
        name: create.name.to_string(),
        pool: create.pool.map(|p| p.to_string()),
        size_bytes: create.size.bytes(),
        block_bytes: Some(create.block_size.bytes()),
    }
}

/// Names are checked by the server; here they only must not change the path's meaning.
fn path(name: &str, rest: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let name: String = name
        .bytes()
        .map(|b| {
            if safe(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    format!("/v1/volumes/{name}{rest}")
}

fn delete(client: &Client, name: &str, yes: bool, output: Output) -> anyhow::Result<()> {
    if !yes && !confirmed(name)? {
        anyhow::bail!("volume '{name}' was not deleted");
    }
    let gone: Deleted = run(client.delete(&path(name, "")))?;
    print(output, &gone, |gone| {
        let warning = gone
            .warning
            .as_ref()
            .map(|w| format!("note: {w}\n"))
            .unwrap_or_default();
        format!("deleted {}\n{warning}", gone.name)
    });
    Ok(())
}

/// Asks on the terminal; without one, only `--yes` may delete.
fn confirmed(name: &str) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        anyhow::bail!("deleting '{name}' destroys its data: repeat with --yes to do it");
    }
    eprint!("This destroys everything in volume '{name}'. Type its name to go on: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(line.trim_end() == name)
}

/// `bedplate connect-info VOLUME`
pub fn connect_info(client: &Client, volume: &str, output: Output) -> anyhow::Result<()> {
    let info: ConnectInfo = run(client.get(&path(volume, "/connect")))?;
    print(output, &info, |info| {
        info.commands
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    });
    Ok(())
}

/// `bedplate status`
pub fn status(client: &Client, output: Output) -> anyhow::Result<()> {
    let status: Status = run(client.get("/v1/status"))?;
    print(output, &status, status_text);
    Ok(())
}

/// The state, and that nothing is kept where that is so: every listing says it.
fn state_text(state: &str, volatile: bool) -> String {
    let note = if volatile { ", keeps nothing" } else { "" };
    format!("{state}{note}")
}

fn volume_text(volume: &VolumeStatus) -> String {
    let mut text = fields(&[
        ("name", volume.name.clone()),
        ("pool", volume.pool.clone()),
        ("state", state_text(&volume.state, volume.volatile)),
        (
            "size",
            format!("{} ({} bytes)", bytes(volume.size_bytes), volume.size_bytes),
        ),
        ("occupies", bytes(volume.mapped_bytes)),
        ("block size", volume.block_bytes.to_string()),
        ("uuid", volume.uuid.clone()),
        ("nqn", volume.nqn.clone()),
        ("home core", volume.core.to_string()),
        ("connections", connections_text(&volume.connections)),
    ]);
    if let Some(iqn) = &volume.iqn {
        text.push_str(&fields(&[
            ("iqn", iqn.clone()),
            ("sessions", volume.iscsi_sessions.to_string()),
        ]));
    }
    text.push_str(&counters_text(std::slice::from_ref(volume)));
    text
}

/// How many there are on which core: `3 on core 0, 1 on core 1 over RDMA`.
fn connections_text(all: &[CoreConnections]) -> String {
    let each: Vec<String> = all
        .iter()
        .map(|here| {
            let over = match here.transport {
                Transport::Tcp => "",
                Transport::Rdma => " over RDMA",
            };
            format!("{} on core {}{over}", here.count, here.core)
        })
        .collect();
    if each.is_empty() {
        return "none".into();
    }
    each.join(", ")
}

/// Volumes that hosts are connected to, with the cores that serve them.
fn served_text(all: &[VolumeStatus]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .filter(|v| !v.connections.is_empty())
        .map(|v| {
            vec![
                v.name.clone(),
                v.core.to_string(),
                connections_text(&v.connections),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n{}",
        table(&["VOLUME", "HOME CORE", "CONNECTIONS"], &rows)
    )
}

fn volumes_text(all: &[VolumeStatus]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|v| {
            vec![
                v.name.clone(),
                v.pool.clone(),
                bytes(v.size_bytes),
                bytes(v.mapped_bytes),
                v.block_bytes.to_string(),
                state_text(&v.state, v.volatile),
                v.nqn.clone(),
            ]
        })
        .collect();
    table(
        &["NAME", "POOL", "SIZE", "OCCUPIES", "BLOCK", "STATE", "NQN"],
        &rows,
    )
}

/// Operations that happened, of the volumes that are served.
fn counters_text(all: &[VolumeStatus]) -> String {
    let mut rows = Vec::new();
    for volume in all {
        for op in volume.counters.iter().flat_map(|c| &c.operations) {
            if op.completed + op.failed == 0 {
                continue;
            }
            rows.push(vec![
                volume.name.clone(),
                op.operation.clone(),
                op.completed.to_string(),
                op.failed.to_string(),
                bytes(op.bytes),
                format!("{}us", op.p50_us),
                format!("{}us", op.p99_us),
                format!("{}us", op.max_us),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "VOLUME",
        "OPERATION",
        "DONE",
        "FAILED",
        "BYTES",
        "P50",
        "P99",
        "MAX",
    ];
    format!("\n{}", table(&head, &rows))
}

fn status_text(status: &Status) -> String {
    let mut text = fields(&[
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("up", format!("{}s", status.uptime_seconds)),
        ("connections", status.connections.to_string()),
    ]);
    for listener in &status.listeners {
        text.push_str(&format!(
            "listens:     {} {}\n",
            listener.kind, listener.address
        ));
    }
    text.push_str(&format!("\n{}", cores_text(&status.cores)));
    text.push_str(&format!("\n{}", pools_text(status)));
    text.push_str(&format!("\n{}", volumes_text(&status.volumes)));
    text.push_str(&served_text(&status.volumes));
    text.push_str(&engine_text(&status.volumes));
    text.push_str(&counters_text(&status.volumes));
    text
}

fn cores_text(cores: &[CoreStatus]) -> String {
    let rows: Vec<Vec<String>> = cores
        .iter()
        .map(|c| {
            let cpu = c.cpu.map_or("any".to_string(), |cpu| cpu.to_string());
            vec![
                c.index.to_string(),
                cpu,
                percent(c.busy_fraction),
                c.connections.to_string(),
                c.guests.to_string(),
                c.moves.to_string(),
                c.parks.to_string(),
                c.ops.to_string(),
            ]
        })
        .collect();
    let head = [
        "CORE",
        "CPU",
        "BUSY",
        "CONNECTIONS",
        "GUESTS",
        "MOVES",
        "PARKS",
        "OPS",
    ];
    table(&head, &rows)
}

fn pools_text(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status
        .pools
        .iter()
        .map(|p| {
            vec![
                p.name.clone(),
                bytes(p.size_bytes),
                bytes(p.used_bytes),
                bytes(p.free_bytes),
                p.core.to_string(),
                state_text(&p.state, p.volatile),
                place_text(p),
            ]
        })
        .collect();
    table(
        &["POOL", "SIZE", "USED", "FREE", "CORE", "STATE", "PATH"],
        &rows,
    )
}

fn place_text(pool: &PoolStatus) -> String {
    pool.path.clone().unwrap_or_else(|| "in memory".into())
}

/// `bedplate pool show NAME`, of a pool that only the running server has.
pub fn pool_text(pool: &PoolStatus) -> String {
    fields(&[
        ("pool", pool.name.clone()),
        ("path", place_text(pool)),
        ("uuid", pool.uuid.clone()),
        ("size", bytes(pool.size_bytes)),
        ("free", bytes(pool.free_bytes)),
        ("state", state_text(&pool.state, pool.volatile)),
    ])
}

/// The pool in the memory of the running server that `path` names.
///
/// Such a pool has no path, so people name it by its name. None when something is at `path`, when
/// there is no server to ask, or when it has no such pool.
pub fn pool_in_memory(client: &Client, path: &Path) -> Option<PoolStatus> {
    let name = path.to_str().filter(|_| !path.exists())?;
    let pools: Vec<PoolStatus> = run(client.get("/v1/pools")).ok()?;
    pools.into_iter().find(|p| p.volatile && p.name == name)
}

fn engine_text(all: &[VolumeStatus]) -> String {
    let served = all
        .iter()
        .filter_map(|v| v.counters.as_ref().map(|c| (v, c)));
    let rows: Vec<Vec<String>> = served
        .map(|(v, c)| {
            vec![
                v.name.clone(),
                percent(c.journal_fill),
                c.dirty_pages.to_string(),
                c.flush_cycles.to_string(),
                c.corrupt_reads.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "VOLUME",
        "JOURNAL",
        "DIRTY PAGES",
        "FLUSH CYCLES",
        "CORRUPT READS",
    ];
    format!("\n{}", table(&head, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(index: usize, cpu: Option<usize>, busy_fraction: f64) -> CoreStatus {
        CoreStatus {
            index,
            cpu,
            busy_fraction,
            busy_us: 1,
            idle_us: 2,
            connections: 3 + index as u64,
            guests: 2,
            moves: 5,
            moves_given_up: 0,
            mailbox_waits: 0,
            parks: 40,
            ops: 50,
            iscsi: None,
            rdma: None,
        }
    }

    #[test]
    fn each_core_shows_how_busy_it_is_and_whom_it_serves() {
        let cores = [core(0, Some(7), 0.6249), core(1, None, 0.0)];
        let text = "\
            CORE  CPU  BUSY   CONNECTIONS  GUESTS  MOVES  PARKS  OPS\n\
            0     7    62.5%  3            2       5      40     50\n\
            1     any  0.0%   4            2       5      40     50\n";
        assert_eq!(cores_text(&cores), text);
    }

    #[test]
    fn connections_are_listed_by_core_and_transport() {
        let here = |core, count, transport| CoreConnections {
            core,
            count,
            transport,
        };
        assert_eq!(connections_text(&[]), "none");
        assert_eq!(
            connections_text(&[
                here(0, 3, Transport::Tcp),
                here(0, 2, Transport::Rdma),
                here(2, 1, Transport::Tcp),
            ]),
            "3 on core 0, 2 on core 0 over RDMA, 1 on core 2"
        );
    }

    #[test]
    fn a_strange_name_stays_one_path_segment() {
        assert_eq!(
            path("a/../b?c", "/connect"),
            "/v1/volumes/a%2F..%2Fb%3Fc/connect"
        );
    }
}
