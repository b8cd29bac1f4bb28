//! RDMA on the data cores, as the configuration says.

use ::rdma::verbs::Registry;
use ::rdma::{Card, CardOptions, CardStats};
use anyhow::Context;
use config::NvmeRdmaConfig;
use control::model::RdmaCounters;
use frontends::RdmaOptions;

const UNSERVED: &str = "[nvme_rdma] cannot be served on this machine";

/// Connections of the largest queue that a core has room for, where the card's completion queues are
/// that long; more of shorter queues. At 64 bytes a completion this takes 8 MiB of a core by default.
const CONNECTIONS_A_CORE: u32 = 256;

/// What the cards of all cores share.
#[derive(Clone)]
pub struct Shared {
    registry: Registry,
    options: CardOptions,
}

impl Shared {
    /// Touches no device yet. Errors: the machine has no RDMA libraries.
    pub fn new(config: &NvmeRdmaConfig) -> anyhow::Result<Self> {
        let registry = Registry::new().context(UNSERVED)?;
        Ok(Self {
            registry,
            options: CardOptions {
                receive_entries: config.receive_entries,
                receive_data_bytes: config.in_capsule.bytes() as u32,
                completion_entries: options(config).completion_entries(CONNECTIONS_A_CORE),
                ..CardOptions::default()
            },
        })
    }

    /// What the calling core has of RDMA. Errors: the machine has none.
    pub fn card(&self) -> anyhow::Result<Card> {
        Card::verbs(self.registry.clone(), self.options.clone()).context(UNSERVED)
    }
}

/// The sizes of queues over RDMA.
pub fn options(config: &NvmeRdmaConfig) -> RdmaOptions {
    RdmaOptions {
        max_queue_entries: config.queue_depth,
        in_capsule_bytes: config.in_capsule.bytes() as u32,
        receive_entries: config.receive_entries,
    }
}

/// The counters of a core's card.
pub fn counters(stats: &CardStats) -> RdmaCounters {
    RdmaCounters {
        queue_pairs: stats.queue_pairs,
        memory_regions: stats.memory_regions,
        registered_bytes: stats.registered_bytes,
        receives_posted: stats.receives_posted,
        receives_short: stats.receives_short,
        completions: stats.completions,
        failed: stats.failed,
        armed: stats.armed,
        links_down: stats.links_down,
    }
}
