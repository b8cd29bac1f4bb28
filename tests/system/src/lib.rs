//! The real binary: crash loops, captures, bad input, resource limits.
//!
//! [`Setup`] describes an appliance, [`Server`] runs the binary on it and ends it again whatever
//! happens to the test, [`Binary`] runs one command to its end. What the checking client knows
//! about the data it wrote is in [`model`]; what the data looks like, in [`stamp`].
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests of a real process live on the real clock and on real threads"
)]

pub mod binary;
pub mod capture;
pub mod checker;
pub mod files;
pub mod iscsi;
pub mod model;
pub mod process;
pub mod random;
pub mod server;
pub mod setup;
pub mod stamp;

pub use binary::{Binary, Finished};
pub use process::Process;
pub use random::Random;
pub use server::Server;
pub use setup::{PoolSpec, Setup, VolumeSpec, iqn, nqn};
