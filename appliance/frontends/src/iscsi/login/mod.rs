//! Logins: who an initiator is, whether it may come in, and the parameters of its session.
//!
//! [`Login`] is a machine without I/O: a request and its text go in, a [`Step`] comes out. Before
//! anything is answered it tells who asks for which target ([`Step::Named`]); the caller looks the
//! target up, takes socket and machine to another core if it has to (all of it is `Send`), and lets
//! the login go on ([`Login::proceed`]) or refuses it. At the end ([`Step::Finished`]) the caller
//! makes the session and gives its TSIH ([`Login::finish`]).
//!
//! Source: RFC 7143 sections 6 (negotiation), 6.3 (login), 9.2 (authentication), 13 (keys).

mod chap;
mod keys;
mod machine;
mod names;
mod operational;
mod security;
mod send_targets;
mod talk;
mod text;
mod types;

#[cfg(test)]
mod tests;

pub use chap::{ChapSecrets, ChapUser, SECRET_MIN_BYTES};
pub use machine::{Login, REQUESTS_MAX, TEXT_MAX_BYTES};
pub use names::NAME_MAX_BYTES;
pub use send_targets::{TargetEntry, TargetScope, TextExchange, TextReply, TextStep};
pub use types::{Admission, DigestPolicy, Named, Negotiated, Offer, RandomSource, Reply, Step};
