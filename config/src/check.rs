//! The rules that span several tables.

use std::net::SocketAddr;

use crate::error::{ConfigError, Problem};
use crate::parse::Draft;
use crate::reader::{At, Source};
use crate::{ByteSize, limits, nvme_rdma};

type Result<T> = std::result::Result<T, ConfigError>;

/// Refuses a configuration whose tables are each right but do not fit together.
pub(crate) fn across_tables(source: &Source<'_>, draft: &Draft) -> Result<()> {
    pool_names_and_paths_differ(source, draft)?;
    volume_names_differ(source, draft)?;
    journals_leave_room(source, draft)?;
    listeners_do_not_overlap(source, &listeners(draft))?;
    listeners_do_not_overlap(source, &rdma_listeners(draft))?;
    nvme_rdma::receives_leave_room(source, draft)?;
    one_host_can_connect(source, draft)
}

fn pool_names_and_paths_differ(source: &Source<'_>, draft: &Draft) -> Result<()> {
    let pools = || draft.config.pools.iter().zip(&draft.pools_at);
    let names = pools().map(|(pool, at)| (pool.name.as_str(), &at.name));
    refuse_duplicates(source, "pool.name", names, "give each pool its own name")?;
    // Compared part by part, so that "./a" and "a//b" are what they mean. What only the file system
    // can tell (links, two names of one device) is caught by the lock on the pool.
    let paths: Vec<(String, &At)> = pools()
        .filter_map(|(pool, at)| {
            let path = pool.place.path()?.components();
            Some((path.as_path().display().to_string(), &at.place))
        })
        .collect();
    let plain = paths
        .iter()
        .map(|(path, at)| (path.strip_prefix("./").unwrap_or(path), *at));
    refuse_duplicates(
        source,
        "pool.path",
        plain,
        "give each pool its own file or device",
    )
}

fn volume_names_differ(source: &Source<'_>, draft: &Draft) -> Result<()> {
    let volumes = draft.config.volumes.iter().zip(&draft.volumes_at);
    let names = volumes.map(|(volume, at)| (volume.name.as_str(), at));
    let remedy =
        "give each volume its own name, also over several pools: the name ends its NQN and IQN";
    refuse_duplicates(source, "volume.name", names, remedy)
}

fn refuse_duplicates<'n>(
    source: &Source<'_>,
    key: &str,
    names: impl Iterator<Item = (&'n str, &'n At)>,
    remedy: &str,
) -> Result<()> {
    let mut sorted: Vec<(&str, &At)> = names.collect();
    sorted.sort_by_key(|(name, at)| (*name, at.start));
    let twins = sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    // The topmost repetition in the file, so that the report does not depend on the names.
    let Some(pair) = twins.min_by_key(|pair| pair[1].1.start) else {
        return Ok(());
    };
    let problem = Problem::Duplicate {
        value: format!("{:?}", crate::reader::clip(pair[1].0)),
        first_line: source.line(pair[0].1),
    };
    Err(source.refuse(pair[1].1, key.to_owned(), problem, remedy.to_owned()))
}

/// Volumes are thin and may promise more than the pool has; their journals are not.
fn journals_leave_room(source: &Source<'_>, draft: &Draft) -> Result<()> {
    for (pool, at) in draft.config.pools.iter().zip(&draft.pools_at) {
        let (Some(size), Some((key, size_at))) = (pool.place.size(), &at.size) else {
            continue;
        };
        let homes = draft
            .config
            .volumes
            .iter()
            .filter(|volume| volume.pool == pool.name);
        // No overflow: at most 1024 volumes of at most 4 GiB each.
        let journals = ByteSize::from_bytes(homes.map(|volume| volume.journal.bytes()).sum());
        if journals < size {
            continue;
        }
        let problem = Problem::JournalsFillPool {
            pool: pool.name.to_string(),
            journals: journals.to_string(),
            size: size.to_string(),
        };
        let remedy = format!("make the pool larger than {journals}, or the journals smaller");
        return Err(source.refuse(size_at, (*key).to_owned(), problem, remedy));
    }
    Ok(())
}

/// One address to listen on and where it stood; `None` is a default that nobody wrote.
struct Listener {
    address: SocketAddr,
    at: Option<At>,
    key: &'static str,
}

/// What listens on ports of TCP.
fn listeners(draft: &Draft) -> Vec<Listener> {
    let nvme_at = draft
        .listen_at
        .iter()
        .cloned()
        .map(Some)
        .chain(std::iter::repeat(None));
    let nvme = draft.config.nvme_tcp.listen.iter().copied().zip(nvme_at);
    let nvme = nvme.map(|(address, at)| Listener {
        address,
        at,
        key: "nvme_tcp.listen",
    });
    let iscsi = draft.config.iscsi.iter().flat_map(|iscsi| &iscsi.listen);
    let iscsi = iscsi.zip(&draft.iscsi_at).map(|(address, at)| Listener {
        address: *address,
        at: Some(at.clone()),
        key: "iscsi.listen",
    });
    let metrics = draft.config.metrics.listen.map(|address| {
        let at = draft.metrics_at.clone();
        Listener {
            address,
            at,
            key: "metrics.listen",
        }
    });
    let mut all: Vec<Listener> = nvme.chain(iscsi).chain(metrics).collect();
    all.sort_by_key(|listener| listener.at.as_ref().map(|at| at.start));
    all
}

/// What listens by the RDMA connection manager, whose ports are its own: NVMe/TCP and NVMe/RDMA may
/// both have port 4420 of an address.
fn rdma_listeners(draft: &Draft) -> Vec<Listener> {
    let listen = draft.config.nvme_rdma.iter().flat_map(|rdma| &rdma.listen);
    let at = draft.rdma_at.iter().flat_map(|at| &at.listen);
    listen
        .zip(at)
        .map(|(address, at)| Listener {
            address: *address,
            at: Some(at.clone()),
            key: "nvme_rdma.listen",
        })
        .collect()
}

fn listeners_do_not_overlap(source: &Source<'_>, listeners: &[Listener]) -> Result<()> {
    for (index, listener) in listeners.iter().enumerate() {
        let Some(at) = &listener.at else { continue };
        let mut earlier = listeners[..index].iter();
        let Some(other) = earlier.find(|o| overlap(o.address, listener.address)) else {
            continue;
        };
        let problem = overlap_problem(source, listener, other);
        let remedy = match other.at {
            Some(_) => "keep one of the two, or change a port".to_owned(),
            None => format!("change the port, or write {} too", other.key),
        };
        return Err(source.refuse(at, listener.key.to_owned(), problem, remedy));
    }
    Ok(())
}

fn overlap_problem(source: &Source<'_>, listener: &Listener, earlier: &Listener) -> Problem {
    let (value, other) = (listener.address.to_string(), earlier.address.to_string());
    let Some(at) = &earlier.at else {
        return Problem::OverlapsDefault {
            value,
            default: other,
            key: earlier.key,
        };
    };
    let first_line = source.line(at);
    if listener.address == earlier.address {
        Problem::Duplicate { value, first_line }
    } else {
        Problem::Overlap {
            value,
            other,
            first_line,
        }
    }
}

/// Whether the second of two listeners would find its address in use. A wildcard takes every
/// address of its family. Whether [::] takes IPv4 too depends on the system and shows at bind.
fn overlap(left: SocketAddr, right: SocketAddr) -> bool {
    let wildcard = left.ip().is_unspecified() || right.ip().is_unspecified();
    left.port() == right.port() && left.is_ipv4() == right.is_ipv4() && (left == right || wildcard)
}

fn one_host_can_connect(source: &Source<'_>, draft: &Draft) -> Result<()> {
    let nvme = &draft.config.nvme_tcp;
    let wanted = u64::from(nvme.max_queues) + 1;
    let allowed = u64::from(nvme.max_connections);
    // The defaults fit (checked in `limits`), so one of the two keys is in the file.
    let Some(at) = draft.connections_at.as_ref().filter(|_| wanted > allowed) else {
        return Ok(());
    };
    let remedy = format!(
        "write max_connections = {wanted} or more, or max_queues = {} or less",
        (allowed - 1).min(limits::QUEUES_MAX)
    );
    let problem = Problem::QueuesExceedConnections { wanted, allowed };
    Err(source.refuse(at, "nvme_tcp.max_connections".to_owned(), problem, remedy))
}
