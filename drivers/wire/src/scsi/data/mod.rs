//! Parameter data, in both directions.

pub mod alua;
pub mod capacity;
pub mod copy;
pub mod inquiry;
pub mod mode;
pub mod provisioning;
