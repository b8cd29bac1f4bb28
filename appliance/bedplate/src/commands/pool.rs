//! `bedplate pool create` and `pool show`, on a pool that no server uses. One that is in the memory
//! of the running server is shown by asking it.

use std::path::Path;

use anyhow::{Context, bail};
use block::{Device, OpenOptions};
use control::client::Client;
use serde::Serialize;
use store::{CLUSTER_BYTES, CreateOptions, Pool, VolumeRecord};
use uuid::Uuid;

use super::client::{pool_in_memory, pool_text};
use super::offline;
use crate::cli::{Output, PoolCommand, PoolCreate};
use crate::output::{bytes, fields, print, table};

#[derive(Serialize)]
struct Shown {
    path: String,
    name: String,
    uuid: String,
    created_ms: u64,
    generation: u64,
    closed_cleanly: bool,
    size_bytes: u64,
    free_bytes: u64,
    /// Always false: a pool in memory is shown as the server describes it.
    volatile: bool,
    volumes: Vec<ShownVolume>,
}

#[derive(Serialize)]
struct ShownVolume {
    name: String,
    size_bytes: u64,
    block_bytes: u32,
    mapped_bytes: u64,
    journal_bytes: u64,
    uuid: String,
    state: String,
}

/// Runs one of the pool commands; `client` asks the running server, if there is one.
pub fn run(client: &Client, command: PoolCommand, output: Output) -> anyhow::Result<()> {
    let shown = match command {
        PoolCommand::Create(create) => {
            let path = create.path.clone();
            if create.size.is_none() && pool_in_memory(client, &path).is_some() {
                bail!("no pool was made: {}", in_memory(&path));
            }
            offline::run(self::create(create))
                .with_context(|| format!("no pool was made at {}", path.display()))?
        }
        PoolCommand::Show { path } => {
            if let Some(pool) = pool_in_memory(client, &path) {
                print(output, &pool, pool_text);
                return Ok(());
            }
            let target = path.clone();
            offline::run(async move { show(&target).await })
                .with_context(|| format!("{} cannot be shown", path.display()))?
        }
    };
    print(output, &shown, text);
    Ok(())
}

/// Why a command that needs a file or device cannot work on this one.
pub fn in_memory(name: &Path) -> String {
    format!(
        "'{}' is a pool in the memory of the running server and keeps nothing: only `bedplate \
         serve` makes such a pool, and `bedplate pool show` and `bedplate status` show it",
        name.display()
    )
}

async fn create(create: PoolCreate) -> anyhow::Result<Shown> {
    let device = match (create.path.try_exists()?, create.size) {
        (false, Some(size)) => Device::create(&create.path, size.bytes())?,
        (false, None) => bail!("it does not exist: give --size to make a file"),
        (true, None) => Device::open(&create.path, OpenOptions { read_only: false })?,
        (true, Some(_)) => bail!("it exists: leave --size out to use all of it"),
    };
    let options = CreateOptions {
        name: create.name.to_string(),
        overwrite: false,
    };
    let pool = Pool::create(device, options, store::OpenOptions::default()).await?;
    let shown = describe(&create.path, &pool);
    pool.close(true).await?;
    Ok(shown)
}

async fn show(path: &Path) -> anyhow::Result<Shown> {
    let device = Device::open(path, OpenOptions { read_only: true })?;
    let options = store::OpenOptions {
        read_only: true,
        ..store::OpenOptions::default()
    };
    Ok(describe(path, &Pool::open(device, options).await?))
}

fn describe(path: &Path, pool: &Pool) -> Shown {
    let space = pool.space();
    let clusters = |count: u32| u64::from(count) * CLUSTER_BYTES;
    Shown {
        path: path.display().to_string(),
        name: pool.name().into(),
        uuid: Uuid::from_bytes(pool.uuid()).to_string(),
        created_ms: pool.created_ms(),
        generation: pool.generation(),
        closed_cleanly: pool.opened_clean(),
        size_bytes: clusters(space.clusters_total),
        free_bytes: clusters(space.free),
        volatile: false,
        volumes: pool.records().iter().map(|record| volume(record)).collect(),
    }
}

fn volume(record: &VolumeRecord) -> ShownVolume {
    ShownVolume {
        name: record.name.to_string(),
        size_bytes: record.size_bytes,
        block_bytes: record.block_bytes,
        mapped_bytes: record.mapped_clusters * CLUSTER_BYTES,
        journal_bytes: record.ring_bytes,
        uuid: Uuid::from_bytes(record.uuid).to_string(),
        state: match record.state {
            store::VolumeState::Live => "live".into(),
            store::VolumeState::Deleting => "being deleted".into(),
        },
    }
}

fn text(shown: &Shown) -> String {
    let mut text = fields(&[
        ("pool", shown.name.clone()),
        ("path", shown.path.clone()),
        ("uuid", shown.uuid.clone()),
        ("size", bytes(shown.size_bytes)),
        ("free", bytes(shown.free_bytes)),
        ("generation", shown.generation.to_string()),
        (
            "closed",
            if shown.closed_cleanly {
                "cleanly"
            } else {
                "by a crash, or in use"
            }
            .into(),
        ),
    ]);
    if shown.volumes.is_empty() {
        return text;
    }
    let rows: Vec<Vec<String>> = shown
        .volumes
        .iter()
        .map(|v| {
            vec![
                v.name.clone(),
                bytes(v.size_bytes),
                bytes(v.mapped_bytes),
                v.block_bytes.to_string(),
                bytes(v.journal_bytes),
                v.state.clone(),
                v.uuid.clone(),
            ]
        })
        .collect();
    let head = [
        "VOLUME", "SIZE", "OCCUPIES", "BLOCK", "JOURNAL", "STATE", "UUID",
    ];
    text.push('\n');
    text.push_str(&table(&head, &rows));
    text
}
