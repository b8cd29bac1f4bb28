//! Runs one piece of work on a data core of its own, for commands that need no server.

use anyhow::Context;
use reactor::cores::CoreConfig;

/// Buffers for an offline command: it reads in large pieces, one after another.
const POOL_BYTES: usize = 32 << 20;

/// Runs `work` to its end on this thread.
pub fn run<T: 'static>(
    work: impl Future<Output = anyhow::Result<T>> + 'static,
) -> anyhow::Result<T> {
    let config = CoreConfig {
        io_pool_bytes: POOL_BYTES,
        engine_pool_bytes: POOL_BYTES,
        name: "offline".into(),
        ..CoreConfig::default()
    };
    reactor::cores::run(config, move || work).context("the reactor cannot run here")?
}
