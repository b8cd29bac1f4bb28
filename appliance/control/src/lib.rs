//! The slow plane: management API, its client, and metrics. Runs on ordinary threads with tokio,
//! never on a data core; it talks to the data plane only through [`Appliance`].
#![forbid(unsafe_code)]

pub mod api;
pub mod client;
pub mod error;
pub mod metrics;
pub mod model;
pub mod server;

pub use api::Appliance;
pub use error::ControlError;
