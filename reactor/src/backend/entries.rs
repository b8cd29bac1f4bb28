//! The submission entry of each operation. Building one touches no memory that it names.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::Handle;
use super::arenas::Arenas;
use crate::buf::BufList;
use crate::op::Scratch;

/// Slices per operation; a longer list continues with another operation.
const MAX_IOVECS: usize = 1024;

/// A file as one ring names it, with what that ring knows about memory.
pub(super) struct Target<'a> {
    pub(super) fd: RawFd,
    /// Its place in the ring's table of registered files.
    pub(super) slot: Option<u32>,
    /// The registered buffers, if there are any.
    pub(super) arenas: Option<&'a Arenas>,
    /// Whether vectors may point into registered buffers.
    pub(super) fixed_vectors: bool,
}

impl Target<'_> {
    fn number(&self) -> Fd {
        Fd(self.slot.map_or(self.fd, |index| index as i32))
    }

    fn finish(&self, entry: Entry) -> Entry {
        match self.slot {
            Some(_) => entry.flags(Flags::FIXED_FILE),
            None => entry,
        }
    }

    fn buf_index(&self, list: &BufList) -> Option<u16> {
        if list.len() > 1 && !self.fixed_vectors {
            return None;
        }
        self.arenas?.index_of(list)
    }
}

/// Points the scratch vectors at the list from byte `skip` on.
pub(super) fn gather<'a>(
    list: &BufList,
    mut skip: usize,
    scratch: &'a mut Scratch,
) -> &'a [libc::iovec] {
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
    target: &Target<'_>,
    offset: u64,
    list: &BufList,
    skip: usize,
    scratch: &mut Scratch,
) -> Entry {
    let fd = target.number();
    let index = target.buf_index(list);
    let entry = match (gather(list, skip, scratch), index) {
        ([one], Some(index)) => {
            opcode::ReadFixed::new(fd, one.iov_base.cast(), one.iov_len as u32, index)
                .offset(offset)
                .build()
        }
        ([one], None) => opcode::Read::new(fd, one.iov_base.cast(), one.iov_len as u32)
            .offset(offset)
            .build(),
        (many, Some(index)) => opcode::ReadvFixed::new(fd, many.as_ptr(), many.len() as u32, index)
            .offset(offset)
            .build(),
        (many, None) => opcode::Readv::new(fd, many.as_ptr(), many.len() as u32)
            .offset(offset)
            .build(),
    };
    target.finish(entry)
}

pub(super) fn write(
    target: &Target<'_>,
    offset: u64,
    list: &BufList,
    skip: usize,
    scratch: &mut Scratch,
) -> Entry {
    let fd = target.number();
    let index = target.buf_index(list);
    let entry = match (gather(list, skip, scratch), index) {
        ([one], Some(index)) => {
            opcode::WriteFixed::new(fd, one.iov_base.cast(), one.iov_len as u32, index)
                .offset(offset)
                .build()
        }
        ([one], None) => opcode::Write::new(fd, one.iov_base.cast(), one.iov_len as u32)
            .offset(offset)
            .build(),
        (many, Some(index)) => {
            opcode::WritevFixed::new(fd, many.as_ptr(), many.len() as u32, index)
                .offset(offset)
                .build()
        }
        (many, None) => opcode::Writev::new(fd, many.as_ptr(), many.len() as u32)
            .offset(offset)
            .build(),
    };
    target.finish(entry)
}

pub(super) fn sync(target: &Target<'_>) -> Entry {
    let fsync = opcode::Fsync::new(target.number()).flags(FsyncFlags::DATASYNC);
    target.finish(fsync.build())
}

/// Punches a hole: on a block device the kernel gives the range back and makes it read as zeroes.
pub(super) fn discard(target: &Target<'_>, offset: u64, len_bytes: u64) -> Entry {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let punch = opcode::Fallocate::new(target.number(), len_bytes)
        .offset(offset)
        .mode(mode);
    target.finish(punch.build())
}

pub(super) fn poll(socket: &Handle, events: libc::c_short) -> Entry {
    opcode::PollAdd::new(Fd(socket.raw_fd()), events as u32).build()
}

pub(super) fn connect(socket: &Handle, addr: SocketAddr, scratch: &mut Scratch) -> Entry {
    // Boxed: the table of operations may move its entries, the kernel must find the address.
    let addr = scratch.addr.insert(Box::new(SockaddrStorage::from(addr)));
    opcode::Connect::new(Fd(socket.raw_fd()), addr.as_ptr(), addr.len()).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::BufPool;

    fn list(pools: &[&BufPool]) -> BufList {
        pools
            .iter()
            .map(|pool| pool.try_alloc(4096).unwrap())
            .collect()
    }

    /// The operations that reading and writing `list` become.
    fn codes(arenas: &Arenas, fixed_vectors: bool, list: &BufList) -> [String; 2] {
        let target = Target {
            fd: 3,
            slot: None,
            arenas: Some(arenas),
            fixed_vectors,
        };
        let mut scratch = Scratch::default();
        let read = read(&target, 0, list, 0, &mut scratch);
        let write = write(&target, 0, list, 0, &mut scratch);
        [read, write].map(|entry| {
            let text = format!("{entry:?}");
            let code = text.split("op_code: ").nth(1).expect("an entry shows it");
            code.split(',').next().unwrap().to_owned()
        })
    }

    fn pool() -> BufPool {
        BufPool::new(4 << 20, "entries").unwrap()
    }

    #[test]
    fn buffers_of_an_arena_use_its_registration() {
        let own = pool();
        let arenas = Arenas::new(vec![own.clone()]);
        let single = [opcode::ReadFixed::CODE, opcode::WriteFixed::CODE];
        let vectors = [opcode::ReadvFixed::CODE, opcode::WritevFixed::CODE];
        let expect = |codes: [u8; 2]| codes.map(|code| code.to_string());
        assert_eq!(codes(&arenas, true, &list(&[&own])), expect(single));
        assert_eq!(codes(&arenas, false, &list(&[&own])), expect(single));
        assert_eq!(codes(&arenas, true, &list(&[&own, &own])), expect(vectors));
    }

    #[test]
    fn other_buffers_and_older_kernels_use_plain_operations() {
        let (own, foreign) = (pool(), pool());
        let arenas = Arenas::new(vec![own.clone()]);
        let single = [opcode::Read::CODE, opcode::Write::CODE];
        let vectors = [opcode::Readv::CODE, opcode::Writev::CODE];
        let expect = |codes: [u8; 2]| codes.map(|code| code.to_string());
        assert_eq!(codes(&arenas, true, &list(&[&foreign])), expect(single));
        let mixed = list(&[&own, &foreign]);
        assert_eq!(codes(&arenas, true, &mixed), expect(vectors));
        let pair = list(&[&own, &own]);
        assert_eq!(codes(&arenas, false, &pair), expect(vectors));
    }
}
