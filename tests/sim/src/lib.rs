//! Simulator runs: a pool with volumes and clients in a seeded world of faults and crashes, and
//! three checkers that judge what the clients were told.
//!
//! From one seed follow the world ([`reactor::sim`]), the workload ([`plan`]) and the crashes
//! ([`run`]). Clients ([`client`]) tell the [`ledger`] when each request begins and ends and what
//! reads returned; every block they write says what it is ([`stamp`]). The checkers are one file
//! each: [`checkers::linear`] judges every observation while the target runs,
//! [`checkers::durable`] says what a crash must leave, [`checkers::format`] what the disk must
//! look like. A run that fails says how to repeat it.
#![forbid(unsafe_code)]

pub mod checkers;
pub mod client;
pub mod corruption;
pub mod ledger;
pub mod life;
pub mod operator;
pub mod plan;
pub mod run;
pub mod seeds;
pub mod stamp;
