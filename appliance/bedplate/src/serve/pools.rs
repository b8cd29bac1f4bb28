//! Opens the pools of one data core and makes what the configuration asks for and is missing.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use block::{Device, OpenOptions};
use config::{ByteSize, Name, PoolConfig, PoolPlace, VolumeConfig};
use volume::{Engine, EngineOptions, OpenReport, Outcome, PoolSpec, VolumeSpec};

/// An open pool and what opening found.
pub struct OpenPool {
    /// The configuration it was opened with.
    pub config: PoolConfig,
    /// The pool and its volumes.
    pub engine: Engine,
    /// Volumes that are there and not served: name and what is wrong.
    pub damaged: Vec<(String, String)>,
}

/// Opens or makes the pool, then makes the configured volumes that are missing.
///
/// Errors name the pool and say what to do; a pool that cannot be opened is left as it is. A damaged
/// volume is no error: it is listed and not served, the others are.
pub async fn open(
    pool: &PoolConfig,
    volumes: &[VolumeConfig],
    payload_bytes: usize,
) -> anyhow::Result<OpenPool> {
    let context = || format!("pool '{}'", pool.name);
    let (engine, report) = open_engine(pool, payload_bytes)
        .await
        .with_context(context)?;
    let made = finish_open(pool, volumes, &engine, report)
        .await
        .with_context(context);
    match made {
        Ok(damaged) => Ok(OpenPool {
            config: pool.clone(),
            engine,
            damaged,
        }),
        Err(e) => {
            // Give the pool back as it was found: recovered, checkpointed, closed.
            engine
                .shutdown()
                .await
                .unwrap_or_else(|e| tracing::error!("closing the pool: {e}"));
            Err(e)
        }
    }
}

/// Payloads in memory that each of `files` pools may keep until they are in their clusters.
///
/// A payload lies in the memory of the core whose connection received it, and with spread
/// connections one core may receive for all pools. Half of its memory stays free for requests, and
/// with one pool a sixth of its buffers of 4 KiB (six sixteenths of the memory), too.
pub fn payload_bytes(files: usize) -> usize {
    let memory = reactor::buf::pool().capacity_bytes();
    (memory / 16 * 5).min(memory / 2 / files.max(1))
}

async fn open_engine(
    pool: &PoolConfig,
    payload_bytes: usize,
) -> anyhow::Result<(Engine, OpenReport)> {
    let options = |path: &Path| EngineOptions {
        map_cache_bytes: pool.map_cache.bytes() as usize,
        journal_bytes: pool.journal.bytes(),
        ..EngineOptions::new(path)
    };
    match &pool.place {
        PoolPlace::Path { path, size } => {
            create_when_missing(&pool.name, path, *size).await?;
            let options = EngineOptions {
                payload_bytes: Some(payload_bytes),
                ..options(path)
            };
            Ok(Engine::open(options).await?)
        }
        PoolPlace::Memory { memory } => {
            let device = make_in_memory(&pool.name, *memory).await?;
            let options = options(device.path());
            Ok(Engine::open_on(device, options).await?)
        }
    }
}

/// A pool that holds nothing, on a device that nothing outlives.
async fn make_in_memory(name: &Name, size: ByteSize) -> anyhow::Result<Device> {
    tracing::warn!(pool = %name, %size, "the pool is in memory: it is empty now and keeps nothing");
    let device = Device::in_memory(name.as_str(), size.bytes())?;
    let spec = PoolSpec {
        name: name.to_string(),
        file_bytes: None,
        overwrite: false,
    };
    Engine::create_pool_on(device.clone(), &spec).await?;
    Ok(device)
}

async fn create_when_missing(
    name: &Name,
    path: &Path,
    size: Option<ByteSize>,
) -> anyhow::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let Some(size) = size else {
        bail!(
            "{} does not exist, and without `size` it is not made: add `size`, or correct `path`",
            path.display()
        );
    };
    tracing::info!(pool = %name, path = %path.display(), %size, "making the pool");
    let spec = PoolSpec {
        name: name.to_string(),
        file_bytes: Some(size.bytes()),
        overwrite: false,
    };
    let unfinished = unfinished_path(path);
    remove_unfinished(&unfinished)?;
    Engine::create_pool(&unfinished, &spec).await?;
    // crash here: an unfinished file, which the next start removes, and no pool yet.
    std::fs::rename(&unfinished, path)?;
    // The name is durable with its folder; the file is since it was made.
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// Where a pool's file is made until it is whole, so that a crash never leaves half a pool under
/// the pool's own name.
fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// Removes what a crash left while the pool was made; refuses when somebody is at work on it.
fn remove_unfinished(path: &Path) -> anyhow::Result<()> {
    if !path.try_exists()? {
        return Ok(());
    }
    drop(Device::open(path, OpenOptions { read_only: false })?);
    tracing::warn!(path = %path.display(), "removing an unfinished pool of an earlier start");
    Ok(std::fs::remove_file(path)?)
}

async fn finish_open(
    pool: &PoolConfig,
    volumes: &[VolumeConfig],
    engine: &Engine,
    report: OpenReport,
) -> anyhow::Result<Vec<(String, String)>> {
    if *report.pool != *pool.name.as_str() {
        bail!(
            "{} is the pool '{}': correct `name` or `path`; nothing was changed",
            pool.place,
            report.pool
        );
    }
    let damaged = report
        .volumes
        .iter()
        .filter_map(|volume| match &volume.outcome {
            Outcome::Damaged(damage) => Some((volume.name.to_string(), damage.to_string())),
            Outcome::Opened(_) | Outcome::Deleting => None,
        });
    for volume in volumes {
        create_volume_when_missing(engine, volume).await?;
    }
    Ok(damaged.collect())
}

async fn create_volume_when_missing(engine: &Engine, wanted: &VolumeConfig) -> anyhow::Result<()> {
    let listing = engine.listing();
    let Some(there) = listing
        .iter()
        .find(|v| *v.name == *wanted.name.as_str() && !v.deleting)
    else {
        tracing::info!(volume = %wanted.name, size = %wanted.size, "making the volume");
        let spec = VolumeSpec {
            name: wanted.name.to_string(),
            size_bytes: wanted.size.bytes(),
            block_bytes: wanted.block_size.bytes(),
            journal_bytes: Some(wanted.journal.bytes()),
        };
        let made = engine.create_volume(spec).await;
        made.with_context(|| format!("volume '{}' could not be made", wanted.name))?;
        return Ok(());
    };
    let (size, block) = (wanted.size.bytes(), wanted.block_size.bytes());
    if there.size_bytes != size || there.block_bytes != block {
        tracing::warn!(
            volume = %wanted.name,
            "the volume has {} bytes in blocks of {}, the configuration says {size} in blocks of \
             {block}: the volume stays as it is",
            there.size_bytes,
            there.block_bytes,
        );
    }
    Ok(())
}
