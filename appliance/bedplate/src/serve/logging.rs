//! Where log lines go: standard error, as text or JSON.

use config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` in the environment overrides the level of the configuration.
pub fn start(config: &LogConfig) {
    let level = config.level.as_str();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A subscriber that is there already (a test's) is as good.
    _ = match config.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.try_init(),
    };
}
