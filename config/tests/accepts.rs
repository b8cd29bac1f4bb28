//! What is accepted: the examples, the defaults, and that the documentation tells the truth.

use std::path::{Path, PathBuf};

use config::{AllowHosts, BlockSize, ByteSize, Config, KEYS, LogFormat, PoolPlace, Spin, Timespan};

const MINIMAL: &str = "[[pool]]\nname = 'main'\npath = 'p'\n[[volume]]\nname = 'v'\npool = \
                       'main'\nsize = '1GiB'\n";

fn example(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    Config::load(path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn quickstart_says_what_it_shows() {
    let config = example("quickstart.toml");
    assert_eq!(config.reactor.cores, Some(vec![0]));
    assert_eq!(config.reactor.spin, Spin::For(Timespan::from_micros(50)));
    let place = PoolPlace::Path {
        path: PathBuf::from("var/main.pool"),
        size: Some(ByteSize::gib(4)),
    };
    assert_eq!(config.pools[0].place, place);
    assert!(!config.pools[0].is_volatile());
    assert_eq!(config.volumes[0].name.as_str(), "demo");
    assert_eq!(config.volumes[0].size, ByteSize::gib(1));
    assert_eq!(config.volumes[0].block_size, BlockSize::B4096);
    assert_eq!(config.nvme_tcp.listen, ["127.0.0.1:4420".parse().unwrap()]);
    assert_eq!(config.control.socket, PathBuf::from("var/bedplate.sock"));
    assert_eq!(config.metrics.listen, None);
}

#[test]
fn appliance_says_what_it_shows() {
    let config = example("appliance.toml");
    assert_eq!(config.reactor.cores.as_deref(), Some(&[2, 3, 4, 5][..]));
    assert_eq!(config.pools.len(), 2);
    assert_eq!(config.pools[0].place.size(), None);
    assert_eq!(
        config.volumes[0].journal,
        ByteSize::mib(256),
        "from its pool"
    );
    assert_eq!(config.volumes[1].journal, ByteSize::gib(1), "its own");
    assert!(
        config.volumes[1]
            .allow_hosts
            .admits("nqn.2014-08.org.nvmexpress:uuid:5b1f3a52-7c1d-4f0e-9d55-0c9f2f4b7a10")
    );
    assert!(
        !config.volumes[1]
            .allow_hosts
            .admits("nqn.2014-08.org.nvmexpress:uuid:other")
    );
    let rdma = config.nvme_rdma.expect("it shows NVMe/RDMA");
    assert_eq!(rdma.listen[0], config.nvme_tcp.listen[0]);
    assert_eq!(rdma.receive_entries, 2048);
    assert_eq!(config.volumes[2].block_size.bytes(), 512);
    assert_eq!(config.volumes[2].allow_hosts, AllowHosts::Any);
    assert_eq!(config.control.mode.bits(), 0o660);
    assert_eq!(config.log.format, LogFormat::Json);
}

const ISCSI: &str = "[iscsi]\nlisten = ['127.0.0.1:3260', '[::1]:3260']\nsecrets = 's.toml'\n";

#[test]
fn iscsi_is_off_until_it_is_asked_for() {
    assert_eq!(Config::parse(MINIMAL, "minimal").unwrap().iscsi, None);
    let config = Config::parse(&format!("{MINIMAL}{ISCSI}"), "iscsi").unwrap();
    let iscsi = config.iscsi.unwrap();
    assert_eq!(iscsi.listen.len(), 2);
    assert_eq!(iscsi.secrets.as_deref(), Some(Path::new("s.toml")));
}

const RDMA: &str = "[nvme_rdma]\nlisten = ['127.0.0.1:4420', '[::1]:4420']\n";

/// The port is that of the default NVMe/TCP listener: the two transports do not share ports.
#[test]
fn rdma_is_off_until_it_is_asked_for_and_may_have_the_port_of_tcp() {
    assert_eq!(Config::parse(MINIMAL, "minimal").unwrap().nvme_rdma, None);
    let config = Config::parse(&format!("{MINIMAL}{RDMA}"), "rdma").unwrap();
    let rdma = config.nvme_rdma.unwrap();
    assert_eq!(rdma.listen[0], config.nvme_tcp.listen[0]);
    assert_eq!(rdma.queue_depth, 128);
    assert_eq!(rdma.in_capsule, ByteSize::kib(4));
    assert_eq!(rdma.receive_entries, 1024);
    assert_eq!(rdma.receive_bytes(), ByteSize::from_bytes(1024 * 4160));
}

const IN_MEMORY: &str = "[[pool]]\nname = 'ram'\nmemory = '1GiB'\n";

#[test]
fn memory_stands_in_place_of_path_and_size() {
    let config = Config::parse(IN_MEMORY, "memory").unwrap();
    let memory = ByteSize::gib(1);
    assert_eq!(config.pools[0].place, PoolPlace::Memory { memory });
    assert!(config.pools[0].is_volatile());
    assert_eq!(config.pools[0].place.path(), None);
    assert_eq!(config.pools[0].place.size(), Some(memory));
}

#[test]
fn what_was_read_can_be_written_and_read_again() {
    let minimal = Config::parse(MINIMAL, "minimal").unwrap();
    let in_memory = Config::parse(IN_MEMORY, "memory").unwrap();
    let iscsi = Config::parse(&format!("{MINIMAL}{ISCSI}"), "iscsi").unwrap();
    let rdma = Config::parse(&format!("{MINIMAL}{RDMA}"), "rdma").unwrap();
    for config in [
        example("quickstart.toml"),
        example("appliance.toml"),
        minimal,
        in_memory,
        iscsi,
        rdma,
    ] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(Config::parse(&text, "written").unwrap(), config, "{text}");
    }
}

#[test]
fn values_at_their_limits_are_accepted() {
    for line in [
        "[reactor]\ncores = [1023, 0]\nspin = '0s'\nmemory = '32MiB'",
        "[reactor]\nspin = 'always'\nmemory = '64GiB'",
        "[reactor]\nspin = '1s'",
        "[nvme_tcp]\nlisten = ['0.0.0.0:4420', '[::]:4420', '0.0.0.0:4421']",
        "[nvme_tcp]\nmax_queues = 1024\nmax_connections = 1025\nqueue_depth = 1024",
        "[nvme_tcp]\nmax_queues = 1\nmax_connections = 2\nqueue_depth = 32",
        "[nvme_tcp]\nmax_io = '1MiB'\nin_capsule = '64KiB'",
        "[nvme_tcp]\nmax_io = '128KiB'\nin_capsule = '4KiB'",
        "[nvme_rdma]\nlisten = ['0.0.0.0:1', '[::]:1']\nqueue_depth = 32\nreceive_entries = 32",
        "[nvme_rdma]\nlisten = ['0.0.0.0:1']\nqueue_depth = 1024\nin_capsule = '16KiB'",
        "[reactor]\nmemory = '32MiB'\n[nvme_rdma]\nlisten = ['0.0.0.0:1']\nreceive_entries = 4032",
        "[reactor]\nmemory = '2GiB'\n[nvme_rdma]\nlisten = ['0.0.0.0:1']\nin_capsule = '16KiB'\n\
         receive_entries = 32768",
        "[iscsi]\nlisten = ['0.0.0.0:3260']\nqueue_depth = 2\nmax_connections = 1",
        "[iscsi]\nlisten = ['0.0.0.0:3260']\nqueue_depth = 512\nmax_connections = 65536",
        "[[volume]]\nname = 'w'\npool = 'main'\nsize = '256TiB'\njournal = '4GiB'",
        "[[volume]]\nname = 'w'\npool = 'main'\nsize = '1MiB'\njournal = '16MiB'",
        "[[pool]]\nname = 'x'\npath = 'q'\nsize = '256TiB'\nmap_cache = '256GiB'",
        "[[pool]]\nname = 'x'\nmemory = '64MiB'\n[[pool]]\nname = 'y'\nmemory = '1TiB'",
        "[metrics]\n[control]\n[log]",
    ] {
        let text = format!("{MINIMAL}{line}\n");
        Config::parse(&text, "limits").unwrap_or_else(|error| panic!("{line}\n{error}"));
    }
}

/// The defaults listed with the keys are those that are used.
#[test]
fn listed_defaults_are_the_real_ones() {
    let config = Config::parse(&format!("{MINIMAL}{ISCSI}{RDMA}"), "minimal").unwrap();
    let written: toml::Table = toml::to_string(&config).unwrap().parse().unwrap();
    for key in KEYS {
        let Some(default) = key.default else { continue };
        let table = match &written[key.table] {
            toml::Value::Array(tables) => &tables[0],
            table => table,
        };
        let listed: toml::Table = format!("default = {default}").parse().unwrap();
        assert_eq!(
            table[key.name], listed["default"],
            "{}.{}",
            key.table, key.name
        );
    }
}

/// Every key has its row in docs/configuration.md, with the right default, and no row is stale.
#[test]
fn documentation_lists_every_key_and_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = Vec::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("## `[") {
            table = header.trim_matches(|c: char| "[]`".contains(c)).to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.split(" | ").collect();
            rows.push((
                table.clone(),
                cells[0].trim_matches('`').to_owned(),
                cells[2].to_owned(),
            ));
        }
    }
    let keys: Vec<_> = rows
        .iter()
        .map(|row| (row.0.as_str(), row.1.as_str()))
        .collect();
    assert_eq!(
        keys,
        KEYS.iter()
            .map(|key| (key.table, key.name))
            .collect::<Vec<_>>()
    );
    for (key, (_, _, default)) in KEYS.iter().zip(&rows) {
        if let Some(expected) = key.default {
            assert_eq!(
                default,
                &format!("`{expected}`"),
                "{}.{}",
                key.table,
                key.name
            );
        }
    }
}

/// The error lines that docs/configuration.md shows are the ones that come.
#[test]
fn documentation_shows_real_errors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    for text in [
        "[[pool]]\nname = 'main'\npath = 'p'\nsize = '4GB'\n",
        "[[pool]]\nname = 'main'\npath = 'p'\n\n[reactor]\ncors = [0]\n",
    ] {
        let line = Config::parse(text, "bedplate.toml")
            .unwrap_err()
            .to_string();
        assert!(documentation.contains(&line), "{line}");
    }
}
