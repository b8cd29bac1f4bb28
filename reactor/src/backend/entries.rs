//! The submission entry of each operation. Building one touches no memory that it names.

use std::net::SocketAddr;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::Handle;
use crate::buf::BufList;
use crate::op::Scratch;

/// Slices per operation; a longer list continues with another operation.
const MAX_IOVECS: usize = 1024;

/// The number that names the file in an entry: its registered place, or its descriptor.
fn target(handle: &Handle) -> i32 {
    handle
        .fixed_index()
        .map_or(handle.raw_fd(), |index| index as i32)
}

fn with_target_flags(entry: Entry, handle: &Handle) -> Entry {
    match handle.fixed_index() {
        Some(_) => entry.flags(Flags::FIXED_FILE),
        None => entry,
    }
}

/// Points the scratch vectors at the list from byte `skip` on.
fn gather<'a>(list: &BufList, mut skip: usize, scratch: &'a mut Scratch) -> &'a [libc::iovec] {
    scratch.iovecs.clear();
    for buf in list {
        if skip >= buf.len() {
            skip -= buf.len();
            continue;
        }
        // The kernel writes through this only for reads, whose buffers are unshared.
        let start = buf.kernel_ptr().wrapping_add(skip).cast();
        scratch.iovecs.push(libc::iovec {
            iov_base: start,
            iov_len: buf.len() - skip,
        });
        skip = 0;
        if scratch.iovecs.len() == MAX_IOVECS {
            break;
        }
    }
    &scratch.iovecs
}

pub(super) fn read(
    file: &Handle,
    offset: u64,
    list: &BufList,
    skip: usize,
    scratch: &mut Scratch,
) -> Entry {
    let fd = Fd(target(file));
    let entry = match gather(list, skip, scratch) {
        [one] => opcode::Read::new(fd, one.iov_base.cast(), one.iov_len as u32)
            .offset(offset)
            .build(),
        many => opcode::Readv::new(fd, many.as_ptr(), many.len() as u32)
            .offset(offset)
            .build(),
    };
    with_target_flags(entry, file)
}

pub(super) fn write(
    file: &Handle,
    offset: u64,
    list: &BufList,
    skip: usize,
    scratch: &mut Scratch,
) -> Entry {
    let fd = Fd(target(file));
    let entry = match gather(list, skip, scratch) {
        [one] => opcode::Write::new(fd, one.iov_base.cast(), one.iov_len as u32)
            .offset(offset)
            .build(),
        many => opcode::Writev::new(fd, many.as_ptr(), many.len() as u32)
            .offset(offset)
            .build(),
    };
    with_target_flags(entry, file)
}

pub(super) fn sync(file: &Handle) -> Entry {
    let fsync = opcode::Fsync::new(Fd(target(file))).flags(FsyncFlags::DATASYNC);
    with_target_flags(fsync.build(), file)
}

/// Punches a hole: on a block device the kernel gives the range back and makes it read as zeroes.
pub(super) fn discard(file: &Handle, offset: u64, len_bytes: u64) -> Entry {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let punch = opcode::Fallocate::new(Fd(target(file)), len_bytes)
        .offset(offset)
        .mode(mode);
    with_target_flags(punch.build(), file)
}

pub(super) fn poll(socket: &Handle, events: libc::c_short) -> Entry {
    opcode::PollAdd::new(Fd(socket.raw_fd()), events as u32).build()
}

pub(super) fn connect(socket: &Handle, addr: SocketAddr, scratch: &mut Scratch) -> Entry {
    // Boxed: the table of operations may move its entries, the kernel must find the address.
    let addr = scratch.addr.insert(Box::new(SockaddrStorage::from(addr)));
    opcode::Connect::new(Fd(socket.raw_fd()), addr.as_ptr(), addr.len()).build()
}
