//! `[nvme_rdma]`: from TOML to the model, and what it has to fit into.

use crate::error::{ConfigError, Problem};
use crate::limits;
use crate::model::NvmeRdmaConfig;
use crate::parse::Draft;
use crate::reader::{At, SizeRule, Source, Table};
use crate::size::ByteSize;
use crate::values::{address, size_or};

type Result<T> = std::result::Result<T, ConfigError>;

const IN_CAPSULE: SizeRule = SizeRule {
    least: limits::IN_CAPSULE_MIN,
    most: limits::RDMA_IN_CAPSULE_MAX,
    unit: limits::IN_CAPSULE_UNIT,
};

/// Where the parts of the table stood.
pub(crate) struct RdmaAt {
    /// Beside `listen`.
    pub listen: Vec<At>,
    /// The key that says most about the memory of receives, if any does.
    receives: Option<(&'static str, At)>,
}

pub(crate) fn table(table: &Table<'_>) -> Result<(NvmeRdmaConfig, RdmaAt)> {
    let listen = table.required("listen", "[\"10.0.0.1:4420\"]")?;
    let if_empty =
        "write at least one address, for example \"10.0.0.1:4420\", or remove [nvme_rdma]";
    let addresses = listen.list(limits::LISTEN_COUNT_MAX, if_empty)?;
    let depths = limits::QUEUE_DEPTH_MIN..=limits::QUEUE_DEPTH_MAX;
    let queue_depth = table
        .get("queue_depth")
        .map_or(Ok(limits::RDMA_QUEUE_DEPTH_DEFAULT), |entry| {
            entry.integer(depths)
        })?;
    let default = limits::RDMA_IN_CAPSULE_DEFAULT;
    let config = NvmeRdmaConfig {
        listen: addresses.iter().map(address).collect::<Result<_>>()?,
        queue_depth: queue_depth as u16,
        in_capsule: size_or(table, "in_capsule", &IN_CAPSULE, default)?,
        receive_entries: receive_entries(table, queue_depth)?,
    };
    let at = |key, name| table.get(key).map(|entry| (name, entry.at));
    let receives = at("receive_entries", "nvme_rdma.receive_entries")
        .or_else(|| at("in_capsule", "nvme_rdma.in_capsule"));
    let listen = addresses.into_iter().map(|entry| entry.at).collect();
    Ok((config, RdmaAt { listen, receives }))
}

/// One full queue always finds its receives, so that a single busy host never has to send twice.
fn receive_entries(table: &Table<'_>, queue_depth: u64) -> Result<u32> {
    let Some(entry) = table.get("receive_entries") else {
        return Ok(limits::RECEIVE_ENTRIES_DEFAULT as u32);
    };
    let entries = entry.integer(limits::RECEIVE_ENTRIES_MIN..=limits::RECEIVE_ENTRIES_MAX)?;
    if entries < queue_depth {
        let problem = Problem::ReceivesBelowQueue {
            receives: entries,
            queue_depth,
        };
        let remedy = format!("write {queue_depth} or more, or a smaller queue_depth");
        return Err(entry.refuse(problem, remedy));
    }
    Ok(entries as u32)
}

/// Receives wait in the buffers of their core, of which half stays for data.
pub(crate) fn receives_leave_room(source: &Source<'_>, draft: &Draft) -> Result<()> {
    let (Some(rdma), Some(at)) = (&draft.config.nvme_rdma, &draft.rdma_at) else {
        return Ok(());
    };
    let memory = draft.config.reactor.memory;
    let receives = rdma.receive_bytes();
    // The defaults fit (checked in `limits`), so one of the keys is in the file.
    let Some((key, at)) = at.receives.as_ref() else {
        return Ok(());
    };
    if receives.bytes() <= memory.bytes() / 2 {
        return Ok(());
    }
    let problem = Problem::ReceivesFillMemory {
        receives: receives.to_string(),
        memory: memory.to_string(),
    };
    // Rounded up to what `memory` is made of.
    let unit = limits::MEMORY_UNIT.bytes();
    let enough = ByteSize::from_bytes((2 * receives.bytes()).div_ceil(unit) * unit);
    let remedy = format!("write less, or [reactor] memory = \"{enough}\" or more");
    Err(source.refuse(at, (*key).to_owned(), problem, remedy))
}
