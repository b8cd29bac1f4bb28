//! iSCSI: sessions, connections and the login that leads to them, over `scsi`.
//!
//! Source: RFC 7143.

pub mod login;
