//! One function per table: from TOML to the types of the model.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{ConfigError, Problem};
use crate::limits;
use crate::model::{
    AllowHosts, BlockSize, Config, ControlConfig, IscsiConfig, LogConfig, LogFormat, LogLevel,
    MetricsConfig, NvmeTcpConfig, Placement, PoolConfig, PoolPlace, ReactorConfig, SocketMode,
    Spin, VolumeConfig,
};
use crate::name::HostName;
use crate::nvme_rdma::{self, RdmaAt};
use crate::reader::{At, Entry, SizeRule, Source, Table, clip, refuse_unknown_tables};
use crate::suggest::nearest;
use crate::timespan::{InvalidTimespan, Timespan};
use crate::values::{self, address, max_io, one_of, size_or};

type Result<T> = std::result::Result<T, ConfigError>;

const MEMORY: SizeRule = SizeRule {
    least: limits::MEMORY_MIN,
    most: limits::MEMORY_MAX,
    unit: limits::MEMORY_UNIT,
};
const POOL_SIZE: SizeRule = SizeRule {
    least: limits::POOL_SIZE_MIN,
    most: limits::POOL_SIZE_MAX,
    unit: limits::POOL_SIZE_UNIT,
};
const POOL_MEMORY: SizeRule = SizeRule {
    least: limits::POOL_SIZE_MIN,
    most: limits::POOL_MEMORY_MAX,
    unit: limits::POOL_SIZE_UNIT,
};
const JOURNAL: SizeRule = SizeRule {
    least: limits::JOURNAL_MIN,
    most: limits::JOURNAL_MAX,
    unit: limits::JOURNAL_UNIT,
};
const MAP_CACHE: SizeRule = SizeRule {
    least: limits::MAP_CACHE_MIN,
    most: limits::MAP_CACHE_MAX,
    unit: limits::MAP_CACHE_UNIT,
};
const VOLUME_SIZE: SizeRule = SizeRule {
    least: limits::VOLUME_SIZE_MIN,
    most: limits::VOLUME_SIZE_MAX,
    unit: limits::VOLUME_SIZE_UNIT,
};
const IN_CAPSULE: SizeRule = SizeRule {
    least: limits::IN_CAPSULE_MIN,
    most: limits::IN_CAPSULE_MAX,
    unit: limits::IN_CAPSULE_UNIT,
};

/// A configuration whose tables are each right, and where the parts stood that rules over several
/// tables look at.
pub(crate) struct Draft {
    pub config: Config,
    /// Beside `config.pools`.
    pub pools_at: Vec<PoolAt>,
    /// Beside `config.volumes`: the name's place.
    pub volumes_at: Vec<At>,
    /// Beside `config.nvme_tcp.listen`; empty when the default is used.
    pub listen_at: Vec<At>,
    /// Beside `config.nvme_rdma`.
    pub rdma_at: Option<RdmaAt>,
    /// Beside `config.iscsi.listen`.
    pub iscsi_at: Vec<At>,
    pub metrics_at: Option<At>,
    /// `max_connections` if given, else `max_queues` if given.
    pub connections_at: Option<At>,
}

/// Where the parts of a pool stood.
pub(crate) struct PoolAt {
    pub name: At,
    /// Its `path` or `memory`.
    pub place: At,
    /// The key that says its size, `size` or `memory`, if any does.
    pub size: Option<(&'static str, At)>,
}

/// Reads the whole text, table by table.
pub(crate) fn document(source: &Source<'_>) -> Result<Draft> {
    let document = source.document()?;
    let tables = document.get_ref();
    refuse_unknown_tables(source, tables)?;
    let (pools, pools_at) = pools(source, tables)?;
    let (volumes, volumes_at) = volumes(source, tables, &pools)?;
    let (nvme_tcp, listen_at, connections_at) = nvme_tcp(single(source, tables, "nvme_tcp")?)?;
    let rdma = single(source, tables, "nvme_rdma")?;
    let rdma = rdma.as_ref().map(nvme_rdma::table).transpose()?;
    let (nvme_rdma, rdma_at) = rdma.unzip();
    let (iscsi, iscsi_at) = iscsi(single(source, tables, "iscsi")?)?;
    let (metrics, metrics_at) = metrics(single(source, tables, "metrics")?)?;
    let reactor = reactor(single(source, tables, "reactor")?)?;
    let control = control(single(source, tables, "control")?)?;
    let log = log(single(source, tables, "log")?)?;
    let config = Config {
        reactor,
        pools,
        volumes,
        nvme_tcp,
        nvme_rdma,
        iscsi,
        control,
        metrics,
        log,
    };
    Ok(Draft {
        config,
        pools_at,
        volumes_at,
        listen_at,
        rdma_at,
        iscsi_at,
        metrics_at,
        connections_at,
    })
}

fn value_of<'a>(tables: &'a DeTable<'a>, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    tables
        .iter()
        .find(|(key, _)| key.get_ref() == name)
        .map(|(_, value)| value)
}

/// A table that may stand once.
fn single<'a>(
    source: &'a Source<'a>,
    tables: &'a DeTable<'a>,
    name: &'static str,
) -> Result<Option<Table<'a>>> {
    value_of(tables, name)
        .map(|value| Table::new(source, name, value))
        .transpose()
}

/// A table that may stand several times.
fn repeated<'a>(
    source: &'a Source<'a>,
    tables: &'a DeTable<'a>,
    name: &'static str,
    count_max: usize,
) -> Result<Vec<Table<'a>>> {
    let Some(value) = value_of(tables, name) else {
        return Ok(Vec::new());
    };
    let refuse = |problem, remedy| source.refuse(&value.span(), name.to_owned(), problem, remedy);
    let DeValue::Array(array) = value.get_ref() else {
        let problem = Problem::NotA {
            expected: "a list of tables",
            found: format!("[{name}]"),
        };
        return Err(refuse(
            problem,
            format!("write [[{name}]] with two brackets"),
        ));
    };
    if array.len() > count_max {
        let found = array.len().to_string();
        let problem = Problem::TooLarge {
            found,
            most: count_max.to_string(),
        };
        return Err(refuse(
            problem,
            format!("keep {count_max} or fewer [[{name}]]"),
        ));
    }
    array
        .iter()
        .map(|value| Table::new(source, name, value))
        .collect()
}

fn reactor(table: Option<Table<'_>>) -> Result<ReactorConfig> {
    let mut config = ReactorConfig::default();
    let Some(table) = table else {
        return Ok(config);
    };
    if let Some(entry) = table.get("cores") {
        config.cores = Some(cores(&entry)?);
    }
    if let Some(entry) = table.get("spin") {
        config.spin = spin(&entry)?;
    }
    if let Some(entry) = table.get("memory") {
        config.memory = entry.size(&MEMORY)?;
    }
    Ok(config)
}

fn cores(entry: &Entry<'_>) -> Result<Vec<u32>> {
    let if_empty = "name at least one core, or remove the key to use all but one";
    let mut seen: Vec<(u32, At)> = Vec::new();
    for element in entry.list(limits::CORE_ID_MAX as usize + 1, if_empty)? {
        let core = element.integer(0..=limits::CORE_ID_MAX)? as u32;
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == core) {
            return Err(element.refuse_twice(&format!("core {core}"), first));
        }
        seen.push((core, element.at));
    }
    Ok(seen.into_iter().map(|(core, _)| core).collect())
}

fn spin(entry: &Entry<'_>) -> Result<Spin> {
    const EXAMPLE: &str = "a duration, for example \"50us\", or \"always\"";
    if entry.text(EXAMPLE)? == "always" {
        return Ok(Spin::Always);
    }
    let remedy = |error: InvalidTimespan| match error.meant {
        Some(meant) => format!("write \"{meant}\""),
        None if nearest(&error.text, ["always"]).is_some() => "write \"always\"".to_owned(),
        None => format!("write {EXAMPLE}"),
    };
    let span = entry.parsed::<Timespan>("a duration or \"always\"", EXAMPLE, remedy)?;
    if span > limits::SPIN_MAX {
        let problem = Problem::TooLarge {
            found: span.to_string(),
            most: limits::SPIN_MAX.to_string(),
        };
        return Err(entry.refuse(problem, "write \"always\" for a reactor that never parks"));
    }
    Ok(Spin::For(span))
}

fn pools<'a>(
    source: &'a Source<'a>,
    tables: &'a DeTable<'a>,
) -> Result<(Vec<PoolConfig>, Vec<PoolAt>)> {
    let tables = repeated(source, tables, "pool", limits::POOL_COUNT_MAX)?;
    if tables.is_empty() {
        let remedy = "write [[pool]] and below it name = \"main\" and path = \"FILE OR DEVICE\"";
        let key = "pool".to_owned();
        return Err(source.refuse(&(0..0), key, Problem::Missing, remedy.to_owned()));
    }
    let pools: Result<Vec<_>> = tables.iter().map(pool).collect();
    Ok(pools?.into_iter().unzip())
}

fn pool(table: &Table<'_>) -> Result<(PoolConfig, PoolAt)> {
    let name = table.required("name", "\"main\"")?;
    let (place, place_at, size_at) = match table.get("memory") {
        Some(memory) => pool_in_memory(table, &memory)?,
        None => pool_at_path(table)?,
    };
    let config = PoolConfig {
        name: values::name(&name)?,
        place,
        journal: size_or(table, "journal", &JOURNAL, limits::JOURNAL_DEFAULT)?,
        map_cache: size_or(table, "map_cache", &MAP_CACHE, limits::MAP_CACHE_DEFAULT)?,
    };
    let at = PoolAt {
        name: name.at,
        place: place_at,
        size: size_at,
    };
    Ok((config, at))
}

/// A place, where it stood, and where its size stood.
type PlaceParts = (PoolPlace, At, Option<(&'static str, At)>);

fn pool_at_path(table: &Table<'_>) -> Result<PlaceParts> {
    let path = table.required("path", "\"var/main.pool\"")?;
    let size = table.get("size");
    let place = PoolPlace::Path {
        path: values::path(&path, "\"var/main.pool\"", limits::PATH_BYTES_MAX)?,
        size: size
            .as_ref()
            .map(|entry| entry.size(&POOL_SIZE))
            .transpose()?,
    };
    Ok((place, path.at, size.map(|entry| ("pool.size", entry.at))))
}

/// `memory` stands for both `path` and `size`: either beside it would be a setting that is ignored.
fn pool_in_memory(table: &Table<'_>, memory: &Entry<'_>) -> Result<PlaceParts> {
    let remedies = [
        (
            "path",
            "remove memory for a pool that keeps its data, or path for one that keeps nothing",
        ),
        ("size", "remove size: memory says how large the pool is"),
    ];
    for (key, remedy) in remedies {
        if let Some(entry) = table.get(key) {
            let memory_line = table.line(&memory.at);
            return Err(entry.refuse(Problem::InMemory { key, memory_line }, remedy));
        }
    }
    let place = PoolPlace::Memory {
        memory: memory.size(&POOL_MEMORY)?,
    };
    let at = memory.at.clone();
    Ok((place, at.clone(), Some(("pool.memory", at))))
}

fn volumes<'a>(
    source: &'a Source<'a>,
    tables: &'a DeTable<'a>,
    pools: &[PoolConfig],
) -> Result<(Vec<VolumeConfig>, Vec<At>)> {
    let tables = repeated(source, tables, "volume", limits::VOLUME_COUNT_MAX)?;
    let volumes: Result<Vec<_>> = tables.iter().map(|table| volume(table, pools)).collect();
    Ok(volumes?.into_iter().unzip())
}

fn volume(table: &Table<'_>, pools: &[PoolConfig]) -> Result<(VolumeConfig, At)> {
    let name = table.required("name", "\"demo\"")?;
    let pool = home_of(
        &table.required("pool", &format!("\"{}\"", pools[0].name))?,
        pools,
    )?;
    let config = VolumeConfig {
        name: values::name(&name)?,
        pool: pool.name.clone(),
        size: table.required("size", "\"1GiB\"")?.size(&VOLUME_SIZE)?,
        block_size: table
            .get("block_size")
            .map_or(Ok(BlockSize::B4096), |e| block_size(&e))?,
        allow_hosts: table
            .get("allow_hosts")
            .map_or(Ok(AllowHosts::Any), |e| allow_hosts(&e))?,
        journal: size_or(table, "journal", &JOURNAL, pool.journal)?,
    };
    Ok((config, name.at))
}

/// The pool that a volume names.
fn home_of<'p>(entry: &Entry<'_>, pools: &'p [PoolConfig]) -> Result<&'p PoolConfig> {
    let wanted = entry.text("the name of a [[pool]] in quotes")?;
    let names = || pools.iter().map(|pool| pool.name.as_str());
    pools
        .iter()
        .find(|pool| pool.name.as_str() == wanted)
        .ok_or_else(|| {
            let remedy = match nearest(wanted, names()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!(
                    "there are: {}",
                    clip(&names().collect::<Vec<_>>().join(", "))
                ),
            };
            entry.refuse(Problem::UnknownPool { pool: clip(wanted) }, remedy)
        })
}

fn block_size(entry: &Entry<'_>) -> Result<BlockSize> {
    let bytes = entry.integer(512..=4096)?;
    BlockSize::from_bytes(bytes).ok_or_else(|| {
        let found = bytes.to_string();
        entry.refuse(
            Problem::NotA {
                expected: "a block size",
                found,
            },
            "write 512 or 4096",
        )
    })
}

fn allow_hosts(entry: &Entry<'_>) -> Result<AllowHosts> {
    const EXAMPLE: &str = "the host's name as its /etc/nvme/hostnqn or \
                           /etc/iscsi/initiatorname.iscsi holds it, in quotes";
    let if_empty = "name at least one host, or remove the key to admit every host";
    let mut seen: Vec<(HostName, At)> = Vec::new();
    for element in entry.list(limits::ALLOW_HOSTS_MAX, if_empty)? {
        let host: HostName = element.parsed("a host's name (NQN or IQN)", EXAMPLE, |_| {
            format!("write {EXAMPLE}")
        })?;
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == host) {
            return Err(element.refuse_twice(host.as_str(), first));
        }
        seen.push((host, element.at));
    }
    Ok(AllowHosts::Only(
        seen.into_iter().map(|(host, _)| host).collect(),
    ))
}

type NvmeTcpParts = (NvmeTcpConfig, Vec<At>, Option<At>);

fn nvme_tcp(table: Option<Table<'_>>) -> Result<NvmeTcpParts> {
    let mut config = NvmeTcpConfig::default();
    let Some(table) = table else {
        return Ok((config, Vec::new(), None));
    };
    let mut listen_at = Vec::new();
    if let Some(entry) = table.get("listen") {
        let if_empty = "write at least one address, for example \"127.0.0.1:4420\"";
        let entries = entry.list(limits::LISTEN_COUNT_MAX, if_empty)?;
        config.listen = entries.iter().map(address).collect::<Result<_>>()?;
        listen_at = entries.into_iter().map(|entry| entry.at).collect();
    }
    let queues = table.get("max_queues");
    if let Some(entry) = &queues {
        config.max_queues = entry.integer(1..=limits::QUEUES_MAX)? as u16;
    }
    if let Some(entry) = table.get("queue_depth") {
        let range = limits::QUEUE_DEPTH_MIN..=limits::QUEUE_DEPTH_MAX;
        config.queue_depth = entry.integer(range)? as u16;
    }
    let connections = table.get("max_connections");
    if let Some(entry) = &connections {
        let range = limits::CONNECTIONS_MIN..=limits::CONNECTIONS_MAX;
        config.max_connections = entry.integer(range)? as u32;
    }
    config.max_io = table
        .get("max_io")
        .map_or(Ok(config.max_io), |entry| max_io(&entry))?;
    config.in_capsule = size_or(&table, "in_capsule", &IN_CAPSULE, config.in_capsule)?;
    if let Some(entry) = table.get("placement") {
        let placements = [("spread", Placement::Spread), ("home", Placement::Home)];
        config.placement = one_of(&entry, "a placement of connections", &placements)?;
    }
    Ok((
        config,
        listen_at,
        connections.or(queues).map(|entry| entry.at),
    ))
}

fn iscsi(table: Option<Table<'_>>) -> Result<(Option<IscsiConfig>, Vec<At>)> {
    let Some(table) = table else {
        return Ok((None, Vec::new()));
    };
    let listen = table.required("listen", "[\"127.0.0.1:3260\"]")?;
    let if_empty = "write at least one address, for example \"127.0.0.1:3260\", or remove [iscsi]";
    let entries = listen.list(limits::LISTEN_COUNT_MAX, if_empty)?;
    let queue_depth = table
        .get("queue_depth")
        .map_or(Ok(limits::ISCSI_QUEUE_DEPTH_DEFAULT), |entry| {
            entry.integer(limits::ISCSI_QUEUE_DEPTH_MIN..=limits::ISCSI_QUEUE_DEPTH_MAX)
        })?;
    let max_connections = table
        .get("max_connections")
        .map_or(Ok(limits::CONNECTIONS_DEFAULT), |entry| {
            entry.integer(1..=limits::CONNECTIONS_MAX)
        })?;
    let secrets = table.get("secrets").map(|entry| {
        let example = "\"/etc/bedplate/iscsi-secrets.toml\"";
        values::path(&entry, example, limits::PATH_BYTES_MAX)
    });
    let config = IscsiConfig {
        listen: entries.iter().map(address).collect::<Result<_>>()?,
        queue_depth: queue_depth as u16,
        max_connections: max_connections as u32,
        secrets: secrets.transpose()?,
    };
    let listen_at = entries.into_iter().map(|entry| entry.at).collect();
    Ok((Some(config), listen_at))
}

fn control(table: Option<Table<'_>>) -> Result<ControlConfig> {
    let mut config = ControlConfig::default();
    let Some(table) = table else {
        return Ok(config);
    };
    if let Some(entry) = table.get("socket") {
        config.socket = values::path(
            &entry,
            "\"var/bedplate.sock\"",
            limits::SOCKET_PATH_BYTES_MAX,
        )?;
    }
    if let Some(entry) = table.get("mode") {
        const EXAMPLE: &str = "\"0600\" for the owner alone or \"0660\" for the group too";
        let text = entry.text(EXAMPLE)?;
        config.mode = SocketMode::from_octal(text).ok_or_else(|| {
            let problem = Problem::NotA {
                expected: "a mode for the socket",
                found: clip(text),
            };
            entry.refuse(problem, format!("write {EXAMPLE}"))
        })?;
    }
    Ok(config)
}

fn metrics(table: Option<Table<'_>>) -> Result<(MetricsConfig, Option<At>)> {
    let entry = table.and_then(|table| table.get("listen"));
    let Some(entry) = entry else {
        return Ok((MetricsConfig::default(), None));
    };
    let listen = Some(address(&entry)?);
    Ok((MetricsConfig { listen }, Some(entry.at)))
}

fn log(table: Option<Table<'_>>) -> Result<LogConfig> {
    use LogLevel::{Debug, Error, Info, Trace, Warn};
    let mut config = LogConfig::default();
    let Some(table) = table else {
        return Ok(config);
    };
    if let Some(entry) = table.get("level") {
        let levels = [Error, Warn, Info, Debug, Trace].map(|level| (level.as_str(), level));
        config.level = one_of(&entry, "a log level", &levels)?;
    }
    if let Some(entry) = table.get("format") {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        config.format = one_of(&entry, "a log format", &formats)?;
    }
    Ok(config)
}
