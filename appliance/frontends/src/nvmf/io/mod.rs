//! Write path 2/9: an I/O command becomes a request. Next: `volume::request` (3), the volume.
//!
//! Each file is one command family: `plan` checks the command against the namespace before any
//! data moves, `request` builds what the volume executes. Nothing here waits or allocates.
//! Source: NVM command set 1.0 section 3.

mod compare;
mod dsm;
mod flush;
pub(crate) mod fused;
mod read;
pub(crate) mod reservation;
#[cfg(test)]
mod tests;
mod verify;
mod write;
mod zeroes;

use reactor::buf::Buf;
use volume::{Request, Volume, VolumeInfo};
use wire::nvme::command::Fuse;
use wire::nvme::reservation::{
    ReservationAcquire, ReservationRegister, ReservationRelease, ReservationReport,
};
use wire::nvme::{NSID_ALL, NvmOpcode, Sqe, Status};

use crate::nvmf::controller::Controller;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::{Length, Transfer, check_flags, from_host, to_host};
use crate::nvmf::status::{self, Access};
use crate::nvmf::transport::Transport;
use crate::reservation::Access as Reserved;

/// The one namespace of every subsystem.
pub const NSID: u32 = 1;

/// A checked I/O command: small, `Copy`, kept in the command's slot while its data travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoCommand {
    /// Read.
    Read {
        /// First block.
        lba: u64,
        /// Number of blocks.
        block_count: u32,
        /// Force unit access.
        fua: bool,
    },
    /// Write; the length is the data's.
    Write {
        /// First block.
        lba: u64,
        /// Number of blocks.
        block_count: u32,
        /// Force unit access.
        fua: bool,
    },
    /// Flush.
    Flush,
    /// Write Zeroes.
    WriteZeroes {
        /// First block.
        lba: u64,
        /// Number of blocks.
        block_count: u32,
        /// The host allows that space is given back.
        deallocate: bool,
        /// Force unit access.
        fua: bool,
    },
    /// Dataset Management with the deallocate attribute.
    Deallocate {
        /// Ranges in the data.
        range_count: u16,
    },
    /// Dataset Management without it: hints, of which we make no use.
    Hints,
    /// Compare.
    Compare {
        /// First block.
        lba: u64,
        /// Number of blocks.
        block_count: u32,
        /// Compare with what is on durable media.
        fua: bool,
    },
    /// Verify.
    Verify {
        /// First block.
        lba: u64,
        /// Number of blocks.
        block_count: u32,
    },
    /// Reservation Register.
    Register(ReservationRegister),
    /// Reservation Acquire.
    Acquire(ReservationAcquire),
    /// Reservation Release.
    Release(ReservationRelease),
    /// Reservation Report.
    Report(ReservationReport),
}

/// What a command is checked against.
#[derive(Clone, Copy, Debug)]
pub struct IoContext<'a> {
    /// The namespace; none after its volume was removed.
    pub namespace: Option<&'a VolumeInfo>,
    /// MDTS in bytes.
    pub max_io_bytes: u32,
    /// Data that came in the capsule.
    pub capsule_bytes: u32,
    /// What carries the queue.
    pub transport: Transport,
}

impl IoContext<'_> {
    fn data_to_host(&self, sqe: &Sqe, need_bytes: u64, length: Length) -> Result<Transfer, Status> {
        to_host(sqe, need_bytes, length, self.transport)
    }

    fn data_from_host(
        &self,
        sqe: &Sqe,
        need_bytes: u64,
        length: Length,
    ) -> Result<Transfer, Status> {
        from_host(sqe, need_bytes, self.capsule_bytes, length, self.transport)
    }
}

/// A command that passed its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPlan {
    /// What to do.
    pub command: IoCommand,
    /// Which data it needs or gives.
    pub transfer: Transfer,
}

/// Checks an I/O command. The error is the status that completes it; nothing has happened then.
pub fn plan(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    check_flags(sqe)?;
    let opcode = sqe.nvm_opcode();
    check_fuse(sqe.fuse(), opcode)?;
    match opcode {
        NvmOpcode::READ => read::plan(sqe, context),
        NvmOpcode::WRITE => write::plan(sqe, context),
        NvmOpcode::FLUSH => flush::plan(sqe, context),
        NvmOpcode::WRITE_ZEROES => zeroes::plan(sqe, context),
        NvmOpcode::DATASET_MANAGEMENT => dsm::plan(sqe, context),
        NvmOpcode::COMPARE => compare::plan(sqe, context),
        NvmOpcode::VERIFY => verify::plan(sqe, context),
        NvmOpcode::RESERVATION_REGISTER => reservation::plan_register(sqe, context),
        NvmOpcode::RESERVATION_ACQUIRE => reservation::plan_acquire(sqe, context),
        NvmOpcode::RESERVATION_RELEASE => reservation::plan_release(sqe, context),
        NvmOpcode::RESERVATION_REPORT => reservation::plan_report(sqe, context),
        _ => Err(Status::INVALID_OPCODE.with_dnr()),
    }
}

/// FUSES announces Compare and Write, in this order, and nothing else.
fn check_fuse(fuse: Fuse, opcode: NvmOpcode) -> Result<(), Status> {
    match (fuse, opcode) {
        (Fuse::NONE, _) | (Fuse::FIRST, NvmOpcode::COMPARE) | (Fuse::SECOND, NvmOpcode::WRITE) => {
            Ok(())
        }
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

/// The namespace that `nsid` names. 0, the broadcast value and other numbers name none here.
fn namespace<'a>(sqe: &Sqe, context: &IoContext<'a>) -> Result<&'a VolumeInfo, Status> {
    match (sqe.nsid.get(), context.namespace) {
        (NSID, Some(info)) => Ok(info),
        _ => Err(Status::INVALID_NAMESPACE.with_dnr()),
    }
}

/// As [`namespace`], and the broadcast value is fine too.
fn any_namespace<'a>(sqe: &Sqe, context: &IoContext<'a>) -> Result<&'a VolumeInfo, Status> {
    match (sqe.nsid.get(), context.namespace) {
        (NSID | NSID_ALL, Some(info)) => Ok(info),
        _ => Err(Status::INVALID_NAMESPACE.with_dnr()),
    }
}

/// Checks a block range against the capacity.
fn check_range(info: &VolumeInfo, lba: u64, block_count: u64) -> Result<(), Status> {
    match lba.checked_add(block_count) {
        Some(end) if end <= info.block_count => Ok(()),
        _ => Err(Status::LBA_OUT_OF_RANGE.with_dnr()),
    }
}

/// Bytes of a transfer, checked against MDTS.
fn transfer_bytes(
    info: &VolumeInfo,
    context: &IoContext<'_>,
    block_count: u32,
) -> Result<u64, Status> {
    let len_bytes = u64::from(block_count) * u64::from(info.block_bytes);
    if len_bytes > u64::from(context.max_io_bytes) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    Ok(len_bytes)
}

/// Executes a planned command of a controller on the volume, unless a reservation of another host
/// forbids it. `data` is what the host sent.
///
/// Cancel: as [`Volume::execute`]. Cost: none of its own.
pub async fn execute(
    command: IoCommand,
    data: Option<Buf>,
    volume: &Volume,
    controller: &Controller,
) -> Outcome {
    let Some(access) = command.reserved() else {
        return reservation::execute(command, data, controller).await;
    };
    // Now, not when it was planned: its data may have come after a preemption.
    if let Err(status) = controller.check(access) {
        return Outcome::failure(status);
    }
    let _inside = controller.fence.enter();
    let request = match request(command, data, volume.info()).await {
        Ok(Some(request)) => request,
        Ok(None) => return Outcome::success(),
        Err(status) => return Outcome::failure(status),
    };
    match volume.execute(request).await {
        Ok(data) => Outcome {
            data,
            ..Outcome::success()
        },
        Err(error) => Outcome::failure(status::of_error(&error, command.access())),
    }
}

/// What the volume shall do; none when there is nothing to do.
async fn request(
    command: IoCommand,
    data: Option<Buf>,
    info: &VolumeInfo,
) -> Result<Option<Request>, Status> {
    match command {
        IoCommand::Read {
            lba,
            block_count,
            fua,
        } => Ok(Some(read::request(lba, block_count, fua))),
        IoCommand::Write { lba, fua, .. } => write::request(lba, data, fua).map(Some),
        IoCommand::Flush => Ok(Some(flush::request())),
        IoCommand::WriteZeroes {
            lba,
            block_count,
            deallocate,
            fua,
        } => Ok(Some(zeroes::request(lba, block_count, deallocate, fua))),
        IoCommand::Deallocate { range_count } => dsm::request(data, usize::from(range_count), info)
            .await
            .map(Some),
        IoCommand::Hints => Ok(None),
        IoCommand::Compare { lba, fua, .. } => compare::request(lba, data, fua).map(Some),
        IoCommand::Verify { lba, block_count } => Ok(Some(verify::request(lba, block_count))),
        // They went another way.
        IoCommand::Register(_)
        | IoCommand::Acquire(_)
        | IoCommand::Release(_)
        | IoCommand::Report(_) => Err(Status::INTERNAL_ERROR),
    }
}

/// The data that a command must have by now. Its absence would be a defect of the transport.
fn need(data: Option<Buf>) -> Result<Buf, Status> {
    data.ok_or(Status::INTERNAL_ERROR)
}

impl IoCommand {
    fn access(self) -> Access {
        match self {
            Self::Read { .. } | Self::Compare { .. } | Self::Verify { .. } => Access::Reads,
            _ => Access::Writes,
        }
    }

    /// What a reservation of another host may forbid; none for the commands that are about
    /// reservations. Source: base 2.0 section 8.19, command behaviour.
    fn reserved(self) -> Option<Reserved> {
        match self {
            Self::Read { .. } | Self::Compare { .. } | Self::Verify { .. } => Some(Reserved::Read),
            Self::Write { .. }
            | Self::Flush
            | Self::WriteZeroes { .. }
            | Self::Deallocate { .. }
            | Self::Hints => Some(Reserved::Write),
            Self::Register(_) | Self::Acquire(_) | Self::Release(_) | Self::Report(_) => None,
        }
    }
}
