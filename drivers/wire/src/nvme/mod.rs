//! NVM Express base specification 2.0 and NVM command set 1.0.

pub mod command;
pub mod completion;
pub mod dsm;
pub mod feature;
pub mod identify;
pub mod log;
pub mod register;
pub mod reservation;
pub mod sgl;
pub mod status;

pub use command::{AdminOpcode, NvmOpcode, Sqe};
pub use completion::Cqe;
pub use sgl::{Sgl, SglDescriptor};
pub use status::Status;

/// The namespace id that means every namespace.
pub const NSID_ALL: u32 = 0xffff_ffff;
