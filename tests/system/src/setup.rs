//! A directory with a configuration for one appliance.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// First port tried: below those the kernel hands out to clients, which could be in the way.
const FIRST_PORT: u16 = 21_000;
/// Ports in the range.
const PORTS: u16 = 10_000;

/// Where the server listens for commands, relative to the directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The qualified name of a volume.
#[must_use]
pub fn nqn(volume: &str) -> String {
    format!("nqn.2026-11.io.bedplate:{volume}")
}

/// The iSCSI name of a volume's target.
#[must_use]
pub fn iqn(volume: &str) -> String {
    format!("iqn.2026-11.io.bedplate:{volume}")
}

/// One `[[pool]]`.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// Name, also of the file.
    pub name: String,
    /// Size as written.
    pub size: String,
    /// In the memory of the server, in place of a file.
    pub in_memory: bool,
    /// Journal ring of each volume as written.
    pub journal: String,
}

/// One `[[volume]]`.
#[derive(Clone, Debug)]
pub struct VolumeSpec {
    /// Name.
    pub name: String,
    /// Pool.
    pub pool: String,
    /// Size as written.
    pub size: String,
    /// 512 or 4096.
    pub block_bytes: u32,
}

/// A temporary directory, free ports and what the configuration says.
#[derive(Debug)]
pub struct Setup {
    directory: TempDir,
    /// Address of the NVMe/TCP listener.
    pub address: SocketAddr,
    /// Address of the metrics listener.
    pub metrics: SocketAddr,
    /// Pools.
    pub pools: Vec<PoolSpec>,
    /// Volumes.
    pub volumes: Vec<VolumeSpec>,
    /// Lines below `[reactor]`.
    pub reactor: Vec<String>,
    /// Lines below `[nvme_tcp]`, the address not among them.
    pub nvme_tcp: Vec<String>,
    /// Addresses of the iSCSI listener, each a target portal group; without any, no section.
    pub iscsi: Vec<SocketAddr>,
    /// Lines below `[iscsi]`, the addresses not among them.
    pub iscsi_lines: Vec<String>,
    /// Text of the configuration in place of what the other fields say.
    pub text: Option<String>,
}

impl Setup {
    /// An empty appliance.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("bedplate-test-").tempdir();
        Self {
            directory: directory.expect("a temporary directory"),
            address: free_address(),
            metrics: free_address(),
            pools: Vec::new(),
            volumes: Vec::new(),
            reactor: vec!["memory = \"128MiB\"".to_owned()],
            nvme_tcp: Vec::new(),
            iscsi: Vec::new(),
            iscsi_lines: Vec::new(),
            text: None,
        }
    }

    /// One pool `main` with one volume of 4096-byte blocks, both of the given sizes.
    #[must_use]
    pub fn simple(pool_size: &str, volume: &str, volume_size: &str) -> Self {
        Self::new()
            .pool("main", pool_size)
            .volume(volume, volume_size, 4096)
    }

    /// Adds a pool with the smallest journals.
    #[must_use]
    pub fn pool(mut self, name: &str, size: &str) -> Self {
        let (name, size) = (name.to_owned(), size.to_owned());
        self.pools.push(PoolSpec {
            name,
            size,
            in_memory: false,
            journal: "16MiB".to_owned(),
        });
        self
    }

    /// Adds a pool in memory, which keeps nothing.
    #[must_use]
    pub fn pool_in_memory(self, name: &str, size: &str) -> Self {
        let mut setup = self.pool(name, size);
        let pool = setup.pools.last_mut().expect("just added");
        pool.in_memory = true;
        setup
    }

    /// Adds a volume to the last pool.
    #[must_use]
    pub fn volume(mut self, name: &str, size: &str, block_bytes: u32) -> Self {
        let pool = self.pools.last().expect("a pool comes first").name.clone();
        let (name, size) = (name.to_owned(), size.to_owned());
        self.volumes.push(VolumeSpec {
            name,
            pool,
            size,
            block_bytes,
        });
        self
    }

    /// Serves iSCSI on so many addresses.
    #[must_use]
    pub fn iscsi(mut self, portals: usize) -> Self {
        self.iscsi = (0..portals).map(|_| free_address()).collect();
        self
    }

    /// The URL of a volume's only logical unit, by the first portal.
    #[must_use]
    pub fn iscsi_url(&self, volume: &str) -> String {
        format!("iscsi://{}/{}/0", self.iscsi[0], iqn(volume))
    }

    /// The directory that commands run in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// File of a pool.
    #[must_use]
    pub fn pool_path(&self, name: &str) -> PathBuf {
        self.directory().join(format!("{name}.pool"))
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory().join(CONTROL_SOCKET)
    }

    /// The configuration file's path, relative to the directory.
    #[must_use]
    pub fn config_name(&self) -> &'static str {
        "bedplate.toml"
    }

    /// The configuration file's text.
    #[must_use]
    pub fn config(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let mut text = section("[reactor]", &self.reactor);
        for pool in &self.pools {
            let PoolSpec {
                name,
                size,
                in_memory,
                journal,
            } = pool;
            let place = if *in_memory {
                format!("memory = \"{size}\"")
            } else {
                format!("path = \"{name}.pool\"\nsize = \"{size}\"")
            };
            let _ = write!(
                text,
                "[[pool]]\nname = \"{name}\"\n{place}\njournal = \"{journal}\"\n"
            );
        }
        for volume in &self.volumes {
            let VolumeSpec {
                name,
                pool,
                size,
                block_bytes,
            } = volume;
            let _ = write!(
                text,
                "[[volume]]\nname = \"{name}\"\npool = \"{pool}\"\nsize = \"{size}\"\n\
                 block_size = {block_bytes}\n"
            );
        }
        let listen = format!("listen = [\"{}\"]", self.address);
        let mut nvme_tcp = vec![listen];
        nvme_tcp.extend(self.nvme_tcp.iter().cloned());
        text += &section("[nvme_tcp]", &nvme_tcp);
        if !self.iscsi.is_empty() {
            let addresses: Vec<String> = self.iscsi.iter().map(|a| format!("\"{a}\"")).collect();
            let mut iscsi = vec![format!("listen = [{}]", addresses.join(", "))];
            iscsi.extend(self.iscsi_lines.iter().cloned());
            text += &section("[iscsi]", &iscsi);
        }
        let _ = write!(text, "[control]\nsocket = \"{CONTROL_SOCKET}\"\n");
        let _ = write!(text, "[metrics]\nlisten = \"{}\"\n", self.metrics);
        text
    }

    /// Writes the configuration file.
    pub fn write_config(&self) {
        self.write_text(&self.config());
    }

    /// Writes `text` as the configuration file.
    pub fn write_text(&self, text: &str) {
        let path = self.directory().join(self.config_name());
        std::fs::write(&path, text).expect("the configuration can be written");
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

fn section(head: &str, lines: &[String]) -> String {
    let mut text = format!("{head}\n");
    for line in lines {
        text += line;
        text.push('\n');
    }
    text
}

/// An address on loopback whose port nothing uses. Tests are processes of their own, so each
/// starts its search at a place of its own.
#[must_use]
pub fn free_address() -> SocketAddr {
    use std::sync::atomic::{AtomicU32, Ordering};
    static STEP: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS {
        let step = STEP.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(37).wrapping_add(step) % u32::from(PORTS);
        let port = FIRST_PORT + u16::try_from(place).expect("within the range");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return (Ipv4Addr::LOCALHOST, port).into();
        }
    }
    panic!("no free port from {FIRST_PORT} on");
}
