//! Opening files and devices, and finding the fastest way to each.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::{COMPLETION_ENTRIES, SUBMISSION_ENTRIES, UringBackend};
use crate::backend::Handle;
use crate::backend::files::{self, FileHandle};
use crate::backend::nvme::{self, NvmePlace, NvmeRing};
use crate::backend::polled::{self, NotPolled, PolledPlace, PolledRing};
use crate::buf::BufList;
use crate::fs::{FileInfo, OpenOptions};
use crate::probe::{build_command_ring, build_polled_ring};

impl UringBackend {
    pub(crate) fn open_file(
        &mut self,
        path: &Path,
        options: &OpenOptions,
    ) -> io::Result<(Handle, FileInfo)> {
        self.ring.unregister_stale();
        let sibling = nvme::block_sibling(path);
        let (path, generic) = match &sibling {
            Some(block) => (block.as_path(), Some(path)),
            None => (path, None),
        };
        let (file, mut info) = files::open(path, options, generic.is_some())?;
        let slot = self.ring.register(file.as_raw_fd());
        let nvme = generic.and_then(|generic| self.try_commands(generic, path, options, &info));
        let polled = match nvme {
            Some(_) => None,
            None => self.try_polling(path, &file, &info),
        };
        (info.is_polled, info.is_passthrough) = (polled.is_some(), nvme.is_some());
        let file = FileHandle::new(file, slot, polled, options).with_nvme(nvme);
        Ok((Handle::file(file), info))
    }

    /// A way for commands to a namespace, if a trial read passes.
    fn try_commands(
        &mut self,
        generic: &Path,
        block: &Path,
        options: &OpenOptions,
        info: &FileInfo,
    ) -> Option<NvmePlace> {
        let mut open = || {
            let mut place = nvme::open(generic, block, options, info)?;
            let buf = self.arenas.try_alloc(info.logical_block_bytes as usize);
            nvme::try_read(
                &place,
                BufList::from(buf.ok_or(io::ErrorKind::OutOfMemory)?),
            )?;
            let ring = match self.commands.take() {
                Some(ring) => ring,
                None => {
                    let made = build_command_ring(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)?;
                    NvmeRing::new(made, &self.ring)
                }
            };
            let ring = self.commands.insert(ring);
            place.slot = ring.ring().register(place.raw_fd());
            Ok::<NvmePlace, io::Error>(place)
        };
        let opened = open();
        match &opened {
            Ok(_) => {
                tracing::info!(path = %generic.display(), "reads and writes are NVMe commands")
            }
            Err(error) => tracing::info!(
                path = %generic.display(),
                %error,
                "no NVMe commands: the block device is used"
            ),
        }
        opened.ok()
    }

    /// A place in the polled ring, which is made when there is none, for a device that it suits.
    fn try_polling(&mut self, path: &Path, file: &File, info: &FileInfo) -> Option<PolledPlace> {
        let trial = || {
            let buf = self.arenas.try_alloc(info.logical_block_bytes as usize);
            let buf = buf.ok_or(io::ErrorKind::OutOfMemory)?;
            polled::try_read(file.as_fd(), BufList::from(buf))
        };
        let io_poll = files::queue_setting(file, "io_poll");
        let verdict = polled::judge(info, io_poll.as_deref(), trial);
        let admitted = verdict.and_then(|()| {
            let limits = files::unsplit_limits(file).ok_or(NotPolled::NoLimits)?;
            let ring = match self.polled.take() {
                Some(ring) => ring,
                None => {
                    let made = build_polled_ring(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)?;
                    PolledRing::new(made, &self.ring)
                }
            };
            Ok(self.polled.insert(ring).admit(file.as_fd(), limits))
        });
        if info.is_block_device {
            match &admitted {
                Ok(_) => tracing::info!(path = %path.display(), "this device is polled"),
                Err(why) => tracing::info!(path = %path.display(), %why, "not polled"),
            }
        }
        admitted.ok()
    }
}
