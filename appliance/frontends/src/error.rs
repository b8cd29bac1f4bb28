//! What can go wrong when a frontend is set up, as data.
//!
//! What a host does wrong is not an error of this crate: it gets a status or a termination request
//! and is counted.

use std::net::SocketAddr;

/// A frontend that could not be set up or changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// The listener could not be opened.
    #[error("cannot listen on {address}: {error}: choose another address or stop what uses it")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The card could not listen.
    #[error("cannot listen on {address} over RDMA: {error}")]
    ListenRdma {
        /// The address asked for.
        address: SocketAddr,
        /// What the card said, and what to do.
        #[source]
        error: rdma::RdmaError,
    },
    /// The core has no card.
    #[error("cannot listen on {address} over RDMA: this core was given no card")]
    NoCard {
        /// The address asked for.
        address: SocketAddr,
    },
    /// A subsystem of this name is there already.
    #[error("a subsystem {nqn} is served already: remove it first or choose another volume name")]
    DuplicateSubsystem {
        /// Its qualified name.
        nqn: String,
    },
    /// A target of this name is there already.
    #[error("a target {iqn} is served already: remove it first or choose another volume name")]
    DuplicateTarget {
        /// Its name.
        iqn: String,
    },
    /// No subsystem of this name.
    #[error("no volume named {name} is served: list the volumes and use one of those names")]
    NoSuchSubsystem {
        /// The volume's name.
        name: String,
    },
    /// A qualified name that is not one.
    #[error("{nqn:?} is not a qualified name ({problem}): write one like nqn.2014-08.org:host")]
    BadNqn {
        /// The name given.
        nqn: String,
        /// What is wrong with it.
        problem: wire::error::NqnProblem,
    },
    /// An option outside its limits.
    #[error("{option} = {value} is outside {lowest}..={highest}: choose a value inside")]
    OptionOutOfRange {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: u64,
        /// Smallest value that works.
        lowest: u64,
        /// Largest value that works.
        highest: u64,
    },
    /// A power of two was needed.
    #[error("{option} = {value} is not a power of two: round it")]
    NotPowerOfTwo {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: u64,
    },
    /// The target is shutting down.
    #[error("the target is shutting down: nothing can be added any more")]
    ShuttingDown,
}
