//! What a completion's number means for its operation.

use std::io;

use crate::backend::nvme::{self, NvmePlace};
use crate::backend::polled::PolledPlace;
use crate::backend::{Handle, Op, Outcome};
use crate::op::Scratch;

/// A completion's number as a result.
pub(super) fn check(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

pub(super) fn outcome(op: &Op, result: i32) -> io::Result<Outcome> {
    match (op, check(result)) {
        (Op::Read { .. } | Op::Write { .. }, Ok(count)) => Ok(Outcome::Bytes(count)),
        (Op::Discard { .. }, Err(error)) if is_unsupported(&error) => {
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }
        (_, Ok(_)) => Ok(Outcome::Done),
        (_, Err(error)) => Err(error),
    }
}

/// As [`outcome`]. A device that no longer takes polled I/O (its driver was loaded again without
/// queues for it), or not so much of it, is not polled any more, and its transfers continue in the
/// ordinary ring as after an interruption.
pub(super) fn polled_outcome(op: &Op, result: i32) -> io::Result<Outcome> {
    if !matches!(-result, libc::EOPNOTSUPP | libc::EAGAIN) {
        return outcome(op, result);
    }
    let place = op.transfer_file().and_then(Handle::polled);
    if place.is_some_and(PolledPlace::stop) {
        tracing::warn!(
            error = -result,
            "a device stopped to take polled I/O: not polled any more"
        );
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// What a command did: everything that its vectors name, or nothing. A namespace that no longer
/// takes commands goes on through its block device.
pub(super) fn command_outcome(op: &Op, scratch: &Scratch, result: i32) -> io::Result<Outcome> {
    if matches!(-result, libc::EOPNOTSUPP | libc::EAGAIN) {
        let place = op.transfer_file().and_then(Handle::nvme);
        if place.is_some_and(NvmePlace::stop) {
            tracing::warn!(
                error = -result,
                "a namespace stopped to take commands: not used any more"
            );
        }
        return Err(io::ErrorKind::Interrupted.into());
    }
    nvme::check(result)?;
    let lens = scratch.iovecs.iter().map(|iovec| iovec.iov_len);
    Ok(Outcome::Bytes(lens.sum()))
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}
