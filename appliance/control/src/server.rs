//! Listeners of the management plane: a Unix socket, and TCP for the metrics.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The management socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another server answers on the same path.
    #[error(
        "the control socket {path} belongs to a running server: stop that server, or give this \
         one another `[control] socket`"
    )]
    InUse {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The path names something that is not a socket; it is left alone.
    #[error("the control socket path {path} is taken by something that is not a socket: move it")]
    NotASocket {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(
        "the control socket {path} cannot be opened: {source}; check that its folder exists and is writable"
    )]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Binds the management socket with mode `mode`, replacing a socket that a dead server left behind.
///
/// Errors: see [`SocketError`]; nothing was changed unless the old socket was dead.
pub fn bind(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Io {
        path: path.into(),
        source,
    };
    remove_dead_socket(path)?;
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

fn remove_dead_socket(path: &Path) -> Result<(), SocketError> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.into() });
    }
    if BlockingUnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.into() });
    }
    fs::remove_file(path).map_err(|source| SocketError::Io {
        path: path.into(),
        source,
    })
}
