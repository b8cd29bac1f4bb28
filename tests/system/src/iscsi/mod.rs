//! Foreign initiators: programs that speak iSCSI and judge what comes back.

pub mod initiator;
pub mod suite;
pub mod tool;
pub mod verdict;
