//! The tables and keys that exist. The reader refuses whatever is not listed here.

/// One table of the file.
pub(crate) struct TableSpec {
    /// Its name.
    pub name: &'static str,
    /// Whether it is written `[[name]]` and may stand several times.
    pub repeated: bool,
}

impl TableSpec {
    /// The table's header as written in the file.
    pub fn header(&self) -> String {
        if self.repeated {
            format!("[[{}]]", self.name)
        } else {
            format!("[{}]", self.name)
        }
    }
}

/// Every table, in the order of the documentation.
pub(crate) const TABLES: [TableSpec; 9] = [
    TableSpec {
        name: "reactor",
        repeated: false,
    },
    TableSpec {
        name: "pool",
        repeated: true,
    },
    TableSpec {
        name: "volume",
        repeated: true,
    },
    TableSpec {
        name: "nvme_tcp",
        repeated: false,
    },
    TableSpec {
        name: "nvme_rdma",
        repeated: false,
    },
    TableSpec {
        name: "iscsi",
        repeated: false,
    },
    TableSpec {
        name: "control",
        repeated: false,
    },
    TableSpec {
        name: "metrics",
        repeated: false,
    },
    TableSpec {
        name: "log",
        repeated: false,
    },
];

/// One key of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The table it belongs to.
    pub table: &'static str,
    /// The key itself.
    pub name: &'static str,
    /// The default as it would be written in the file, if there is a fixed one.
    pub default: Option<&'static str>,
}

const fn key(table: &'static str, name: &'static str, default: Option<&'static str>) -> Key {
    Key {
        table,
        name,
        default,
    }
}

/// Every key, in the order of the documentation.
pub const KEYS: &[Key] = &[
    key("reactor", "cores", None),
    key("reactor", "spin", Some(r#""50us""#)),
    key("reactor", "memory", Some(r#""256MiB""#)),
    key("pool", "name", None),
    key("pool", "path", None),
    key("pool", "size", None),
    key("pool", "memory", None),
    key("pool", "journal", Some(r#""64MiB""#)),
    key("pool", "map_cache", Some(r#""64MiB""#)),
    key("volume", "name", None),
    key("volume", "pool", None),
    key("volume", "size", None),
    key("volume", "block_size", Some("4096")),
    key("volume", "allow_hosts", None),
    key("volume", "journal", None),
    key("nvme_tcp", "listen", Some(r#"["127.0.0.1:4420"]"#)),
    key("nvme_tcp", "max_queues", Some("64")),
    key("nvme_tcp", "queue_depth", Some("256")),
    key("nvme_tcp", "max_io", Some(r#""1MiB""#)),
    key("nvme_tcp", "in_capsule", Some(r#""8KiB""#)),
    key("nvme_tcp", "max_connections", Some("1024")),
    key("nvme_tcp", "placement", Some(r#""spread""#)),
    key("nvme_rdma", "listen", None),
    key("nvme_rdma", "queue_depth", Some("128")),
    key("nvme_rdma", "in_capsule", Some(r#""4KiB""#)),
    key("nvme_rdma", "receive_entries", Some("1024")),
    key("iscsi", "listen", None),
    key("iscsi", "queue_depth", Some("128")),
    key("iscsi", "max_connections", Some("1024")),
    key("iscsi", "secrets", None),
    key("control", "socket", Some(r#""var/bedplate.sock""#)),
    key("control", "mode", Some(r#""0600""#)),
    key("metrics", "listen", None),
    key("log", "level", Some(r#""info""#)),
    key("log", "format", Some(r#""text""#)),
];

/// The keys of one table; empty for a table that does not exist.
pub(crate) fn keys_of(table: &str) -> impl Iterator<Item = &'static str> + '_ {
    KEYS.iter()
        .filter(move |key| key.table == table)
        .map(|key| key.name)
}

/// The tables that have this key.
pub(crate) fn tables_with(name: &str) -> impl Iterator<Item = &'static TableSpec> + '_ {
    let has = move |table: &&TableSpec| keys_of(table.name).any(|key| key == name);
    TABLES.iter().filter(has)
}

/// The header of a table as written in the file.
pub(crate) fn header(name: &str) -> String {
    let spec = TABLES.iter().find(|table| table.name == name);
    spec.map_or_else(|| format!("[{name}]"), TableSpec::header)
}
