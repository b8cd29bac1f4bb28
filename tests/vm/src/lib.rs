//! Real kernels in a virtual machine.
//!
//! A stock Debian kernel under software-emulated QEMU attaches volumes of a target that runs
//! natively on this machine; the guest reaches it at 10.0.2.2. The parts:
//!
//! * [`Vm`]: boots the kernel that `prepare.sh` makes ready, runs one guest script, hands out the
//!   console line by line;
//! * [`Target`]: the `bedplate` binary on a configuration of its own, which can be killed and
//!   started again on the same port;
//! * [`Session`]: the two together, or with RDMA both in the VM, and the script's arguments;
//! * [`perf`]: a VM that holds both targets, and how they compare there;
//! * [`acks`]: what the guest was told is durable;
//! * [`slots`]: records the guest's writer puts on a file or device and finds again.
//!
//! A machine without QEMU or without the kernel fails these tests, with what to install.

#![forbid(unsafe_code)]

pub mod acks;
pub mod perf;
pub mod slots;

mod console;
mod error;
mod paths;
mod session;
mod target;
mod time;
mod vm;

pub use console::{Console, ConsoleEvent};
pub use error::{Error, Result};
pub use paths::bedplate_perf;
pub use session::{Kind, Session};
pub use target::{Iscsi, Target, Volume};
pub use vm::{Disk, Hardware, Vm, python_packages};
