//! What a command needs before it can run: how much data, which way, and where it travels.
//!
//! Source: base 2.0 section 4.1.2 (SGL); NVMe/TCP 1.0 section 3.3 (in-capsule and transport data);
//! NVMe/RDMA 1.0 (keyed data blocks).

use wire::nvme::command::Psdt;
use wire::nvme::{Sgl, Sqe, Status};

use crate::nvmf::status::{of_sgl_error, of_wrong_sgl};
use crate::nvmf::transport::Transport;

/// Data of a command. Lengths in bytes, never 0 except in `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// No data.
    #[default]
    None,
    /// The controller sends data back.
    ToHost {
        /// How much.
        len_bytes: u32,
    },
    /// The host sends data first.
    FromHost {
        /// How much.
        len_bytes: u32,
        /// How it comes.
        place: DataPlace,
    },
}

/// How the data of a host-to-controller command comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPlace {
    /// In the command capsule, `offset` bytes after its start.
    Capsule {
        /// Bytes of in-capsule data before the command's.
        offset: u32,
    },
    /// By the transport, on request.
    Transport,
}

/// Whether the data pointer must match the command's length to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Exactly (I/O commands: SGLS says that longer SGLs are not supported).
    Exact,
    /// At least (admin commands: tools round their buffers up).
    AtLeast,
}

/// Checks the flag byte that all commands share: SGLs, known fuse value, reserved bits zero.
pub fn check_flags(sqe: &Sqe) -> Result<(), Status> {
    if sqe.psdt() != Psdt::SGL || sqe.flags & 0x3c != 0 || sqe.flags & 0x03 == 0x03 {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    Ok(())
}

/// Transfer of `need_bytes` to the host; the data pointer must name its memory as `transport` does.
pub fn to_host(
    sqe: &Sqe,
    need_bytes: u64,
    length: Length,
    transport: Transport,
) -> Result<Transfer, Status> {
    let sgl = sqe.sgl().map_err(|error| of_sgl_error(&error))?;
    check_length(host_memory(&sgl, transport)?, need_bytes, length)?;
    Ok(Transfer::ToHost {
        len_bytes: narrow(need_bytes)?,
    })
}

/// Transfer of `need_bytes` from the host; `capsule_bytes` came with the command.
pub fn from_host(
    sqe: &Sqe,
    need_bytes: u64,
    capsule_bytes: u32,
    length: Length,
    transport: Transport,
) -> Result<Transfer, Status> {
    let (len_bytes, place) = match sqe.sgl().map_err(|error| of_sgl_error(&error))? {
        Sgl::InCapsule { offset, len_bytes } => {
            (len_bytes, capsule_place(offset, len_bytes, capsule_bytes)?)
        }
        other => (host_memory(&other, transport)?, DataPlace::Transport),
    };
    check_length(len_bytes, need_bytes, length)?;
    // The transport moves what the data pointer says, so an exact request is never cut short.
    let len_bytes = if place == DataPlace::Transport {
        len_bytes
    } else {
        narrow(need_bytes)?
    };
    Ok(Transfer::FromHost { len_bytes, place })
}

/// Length in bytes of a data pointer that names host memory: TCP moves the data itself and is told how
/// much, RDMA is given the memory and a key to it. Errors: a pointer of another kind.
#[inline]
fn host_memory(sgl: &Sgl, transport: Transport) -> Result<u32, Status> {
    match (sgl, transport) {
        (Sgl::Transport { len_bytes }, Transport::Tcp)
        | (Sgl::Keyed { len_bytes, .. }, Transport::Rdma) => Ok(*len_bytes),
        (other, _) => Err(of_wrong_sgl(other)),
    }
}

fn capsule_place(offset: u64, len_bytes: u32, capsule_bytes: u32) -> Result<DataPlace, Status> {
    let end = offset.checked_add(u64::from(len_bytes));
    if end.is_none_or(|end| end > u64::from(capsule_bytes)) {
        return Err(Status::SGL_OFFSET_INVALID.with_dnr());
    }
    let offset = u32::try_from(offset).map_err(|_| Status::SGL_OFFSET_INVALID.with_dnr())?;
    Ok(DataPlace::Capsule { offset })
}

fn check_length(len_bytes: u32, need_bytes: u64, length: Length) -> Result<(), Status> {
    let len_bytes = u64::from(len_bytes);
    let fits = match length {
        Length::Exact => len_bytes == need_bytes,
        Length::AtLeast => len_bytes >= need_bytes,
    };
    if fits {
        Ok(())
    } else {
        Err(Status::SGL_DATA_LENGTH_INVALID.with_dnr())
    }
}

fn narrow(len_bytes: u64) -> Result<u32, Status> {
    u32::try_from(len_bytes).map_err(|_| Status::INVALID_FIELD.with_dnr())
}

impl Transfer {
    /// Bytes that the host sends.
    pub fn from_host_bytes(self) -> u64 {
        match self {
            Self::FromHost { len_bytes, .. } => u64::from(len_bytes),
            _ => 0,
        }
    }

    /// Bytes of payload memory the command holds while it runs.
    pub fn held_bytes(self) -> usize {
        match self {
            Self::FromHost { len_bytes, .. } | Self::ToHost { len_bytes } => len_bytes as usize,
            Self::None => 0,
        }
    }
}
