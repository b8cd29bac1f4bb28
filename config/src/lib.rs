//! Typed configuration with units; refuses what it does not know.
//!
//! One TOML file describes the whole appliance. [`Config::load`] reads it, [`Config::parse`] takes
//! the text; both give either a complete [`Config`], with every default filled in and every rule
//! checked, or one [`ConfigError`] that says where, what, and what to write instead. Nothing on
//! the machine is looked at here: whether a core may be used, a path opened or an address bound is
//! for the part that uses it.
//!
//! ```
//! let text = "[[pool]]\nname = 'main'\npath = 'main.pool'\nsize = '4GiB'\n";
//! let config = config::Config::parse(text, "bedplate.toml")?;
//! assert_eq!(config.pools[0].place.size().unwrap().to_string(), "4GiB");
//!
//! let error = config::Config::parse("[[pool]]\nnam = 'main'\n", "bedplate.toml").unwrap_err();
//! assert!(error.to_string().starts_with("bedplate.toml:2:1: pool.nam: "));
//! # Ok::<(), config::ConfigError>(())
//! ```
//!
//! File map: `model` the types, `limits` every bound and default, `schema` the list of keys,
//! `parse` one function per table, `nvme_rdma` one of them, `values` what stands in them, `reader` typed access with
//! positions, `check` the rules that span several tables, `secrets` the file of CHAP secrets, `error` what a refusal looks like.
#![forbid(unsafe_code)]

mod check;
mod error;
pub mod limits;
mod load;
mod model;
mod name;
mod nvme_rdma;
mod parse;
mod reader;
mod schema;
mod secrets;
mod size;
mod suggest;
mod timespan;
mod values;

pub use error::{ConfigError, Finding, Problem};
pub use model::{
    AllowHosts, BlockSize, Config, ControlConfig, IscsiConfig, LogConfig, LogFormat, LogLevel,
    MetricsConfig, NvmeRdmaConfig, NvmeTcpConfig, Placement, PoolConfig, PoolPlace, ReactorConfig,
    SocketMode, Spin, VolumeConfig,
};
pub use name::{HostName, InvalidHostName, InvalidName, Name};
pub use schema::{KEYS, Key};
pub use secrets::{ChapSecrets, ChapUser, SecretsError};
pub use size::{ByteSize, InvalidSize};
pub use timespan::{InvalidTimespan, Timespan};
