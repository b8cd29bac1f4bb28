//! Memory that peers may use.

use std::io;
use std::rc::Rc;

use reactor::buf::Buf;

use super::card::CoreCard;
use crate::card::ExposedBackend;
use crate::{Access, RdmaError, Remote};

struct VerbsExposed {
    buf: Buf,
    remote: Remote,
}

/// Lets peers use a buffer. Its whole pool has the key: a peer is trusted not to look further.
pub fn expose(
    card: &Rc<CoreCard>,
    mut buf: Buf,
    _access: Access,
) -> Result<Box<dyn ExposedBackend>, RdmaError> {
    let len_bytes = buf.len();
    let refused = |device: &str, kind| RdmaError::Memory {
        device: device.to_owned(),
        len_bytes,
        error: io::Error::from(kind),
    };
    let Some(device) = card.first_device() else {
        return Err(refused("no device", io::ErrorKind::NotFound));
    };
    let exposes = card.options().exposes_memory;
    let regions = device.regions(exposes);
    let region = regions.find(buf.as_ptr().addr() as u64, len_bytes);
    let region = region.filter(|_| exposes);
    let (Some(region), Some(bytes)) = (region, buf.try_mut()) else {
        return Err(refused(device.name(), io::ErrorKind::PermissionDenied));
    };
    let remote = Remote {
        address: bytes.as_mut_ptr().expose_provenance() as u64,
        key: region.remote_key,
    };
    Ok(Box::new(VerbsExposed { buf, remote }))
}

impl ExposedBackend for VerbsExposed {
    fn remote(&self) -> Remote {
        self.remote
    }

    fn take(self: Box<Self>) -> Buf {
        self.buf
    }
}
