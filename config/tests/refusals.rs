//! Every refusal: its line and column, its key, and what it tells to write instead.

use config::{Config, ConfigError, Finding, Problem};

/// Four lines that are right, for rows about something else.
const POOL: &str = "[[pool]]\nname = 'main'\npath = 'p'\nsize = '4GiB'\n";
/// Four more, lines 5 to 8 after [`POOL`].
const VOLUME: &str = "[[volume]]\nname = 'demo'\npool = 'main'\nsize = '1GiB'\n";

fn refusal(text: &str) -> Finding {
    match Config::parse(text, "c.toml") {
        Err(ConfigError::Refused(finding)) => *finding,
        other => panic!("{text}\n{other:?}"),
    }
}

/// Text after the pool, place, key, part of the problem, part of the remedy.
type Row = (
    &'static str,
    (usize, usize),
    &'static str,
    &'static str,
    &'static str,
);

fn check(prefix: &str, rows: &[Row]) {
    for (text, place, key, problem, remedy) in rows {
        let text = format!("{prefix}{text}");
        let found = refusal(&text);
        assert_eq!((found.line, found.column), *place, "{text}\n{found}");
        assert_eq!(found.key, *key, "{text}\n{found}");
        assert!(
            found.problem.to_string().contains(problem),
            "{text}\n{found}"
        );
        assert!(found.remedy.contains(remedy), "{text}\n{found}");
        assert_eq!(found.file, "c.toml");
    }
}

#[test]
#[rustfmt::skip] // one row a line
fn keys_and_tables() {
    check(
        POOL,
        &[
            ("[reactr]\n", (5, 2), "reactr", "no such key", "did you mean [reactor]?"),
            ("[[pools]]\n", (5, 3), "pools", "no such key", "did you mean [[pool]]?"),
            ("[nvme-tcp]\n", (5, 2), "nvme-tcp", "no such key", "did you mean [nvme_tcp]?"),
            ("[xyzzy]\n", (5, 2), "xyzzy", "no such key", "there are: reactor, pool, volume"),
            ("[reactor]\ncors = [0]\n", (6, 1), "reactor.cors", "no such key", "mean cores?"),
            ("[reactor]\nfrob = 1\n", (6, 1), "reactor.frob", "", "there are: cores, spin"),
            ("[log]\nspin = '1s'\n", (6, 1), "log.spin", "", "spin belongs below [reactor]"),
            ("[log]\njournal = 1\n", (6, 1), "log.journal", "", "below [[pool]] or [[volume]]"),
            ("jurnal = '1GiB'\n", (5, 1), "pool.jurnal", "no such key", "did you mean journal?"),
            ("[reactor]\nspin.x = 1\n", (6, 1), "reactor.spin", "a table stands", "duration"),
            ("[reactor.spin]\n", (5, 1), "reactor.spin", "a table stands", "duration"),
            ("[volume]\n", (5, 1), "volume", "not a list of tables", "write [[volume]]"),
            ("[[reactor]]\n", (5, 1), "reactor", "a list stands", "write [reactor]"),
            ("[[volume]]\n", (5, 1), "volume.name", "missing", "name = \"demo\" below [[volume]]"),
            ("[[volume]]\nname='a'", (5, 1), "volume.pool", "missing", "write pool = \"main\""),
        ],
    );
    check(
        "",
        &[
            ("", (1, 1), "pool", "missing", "[[pool]]"),
            ("reactor = 1\n[[pool]]\nname='a'\npath='p'", (1, 11), "reactor", "a number", "[reac"),
            ("pool = 5", (1, 8), "pool", "not a list", "[[pool]]"),
            ("pool = [5]", (1, 9), "pool", "a number stands", "[[pool]]"),
            ("size = '1GiB'", (1, 1), "size", "", "size belongs below [[pool]] or [[volume]]"),
            ("[[pool]]\npath = 'p'", (1, 1), "pool.name", "missing", "name = \"main\""),
            ("[[pool]]\nname = 'm'", (1, 1), "pool.path", "missing", "path = \"var/main.pool\""),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn text_that_is_not_toml() {
    check(
        "",
        &[
            ("[reactor\n", (1, 9), "", "this is not TOML", "tables as [name]"),
            ("[reactor]\nspin = 50us\n", (2, 8), "", "this is not TOML", "texts in quotes"),
            ("a = 1\na = 2\n", (2, 1), "", "duplicate key", "keep one of the two"),
            ("[log]\n[log]\n", (2, 2), "", "duplicate key", "keep one of the two"),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn reactor() {
    check(
        &format!("{POOL}[reactor]\n"),
        &[
            ("cores = 0", (6, 9), "reactor.cores", "a number stands", "in brackets"),
            ("cores = []", (6, 9), "reactor.cores", "empty", "at least one core"),
            ("cores = [0, 1, 0]", (6, 16), "reactor.cores", "core 0 is here twice", "remove one"),
            ("cores = [0,\n-1]", (7, 1), "reactor.cores", "-1 is less", "write 0 or more"),
            ("cores = [1024]", (6, 10), "reactor.cores", "1024 is more", "write 1023 or less"),
            ("cores = ['0']", (6, 10), "reactor.cores", "a text stands", "whole number from 0"),
            ("cores = [0.5]", (6, 10), "reactor.cores", "fraction", "whole number"),
            ("spin = 50", (6, 8), "reactor.spin", "a number stands", "\"50us\""),
            ("spin = '50'", (6, 8), "reactor.spin", "\"50\" is not a duration", "\"50us\""),
            ("spin = '50 us'", (6, 8), "reactor.spin", "not a duration", "write \"50us\""),
            ("spin = 'allways'", (6, 8), "reactor.spin", "not a duration", "write \"always\""),
            ("spin = '2s'", (6, 8), "reactor.spin", "2s is more", "write \"always\""),
            ("memory = '16MiB'", (6, 10), "reactor.memory", "16MiB is less", "\"32MiB\" or more"),
            ("memory = '1TiB'", (6, 10), "reactor.memory", "1TiB is more", "\"64GiB\" or less"),
            ("memory = '33MiB'", (6, 10), "reactor.memory", "multiple of 2MiB", "\"34MiB\""),
            ("memory = '0'", (6, 10), "reactor.memory", "0 is less", "\"32MiB\" or more"),
            ("memory = 4096", (6, 10), "reactor.memory", "a number stands", "write \"4096\""),
            ("memory = '256MB'", (6, 10), "reactor.memory", "not a size", "write \"256MiB\""),
            ("memory = 'lots'", (6, 10), "reactor.memory", "not a size", "example \"32MiB\""),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn pools() {
    check(
        "[[pool]]\npath = 'p'\n",
        &[
            ("name = 'Main'", (3, 8), "pool.name", "not a name", "example \"main\""),
            ("name = ''", (3, 8), "pool.name", "not a name", "1 to 64 of"),
            ("name = 5", (3, 8), "pool.name", "a number stands", "in quotes"),
            ("name = 'm'\nsize = '1MiB'", (4, 8), "pool.size", "less", "\"64MiB\" or more"),
            ("name = 'm'\nsize = '1PiB'", (4, 8), "pool.size", "more", "\"256TiB\" or less"),
            ("name = 'm'\nsize = '65537KiB'", (4, 8), "pool.size", "multiple", "\"65MiB\""),
            ("name = 'm'\njournal = '1MiB'", (4, 11), "pool.journal", "less", "\"16MiB\""),
            ("name = 'm'\njournal = '5GiB'", (4, 11), "pool.journal", "more", "\"4GiB\""),
            ("name = 'm'\nmap_cache = '0'", (4, 13), "pool.map_cache", "less", "\"1MiB\""),
        ],
    );
    check(
        "[[pool]]\nname = 'm'\n",
        &[
            ("path = ''", (3, 8), "pool.path", "not a path", "write a path"),
            ("path = \"a\\u0000b\"", (3, 8), "pool.path", "not a path", "write a path"),
            ("path = 7", (3, 8), "pool.path", "a number stands", "with the quotes"),
        ],
    );
    let twice = "[[pool]]\nname = 'other'\npath = './p'\n";
    let found = refusal(&format!("{POOL}{twice}"));
    assert_eq!(
        found.to_string(),
        "c.toml:7:8: pool.path: \"p\" is here twice, first in line 3; give each pool \
         its own file or device"
    );
    let found = refusal(&format!("{POOL}[[pool]]\nname = 'main'\npath = 'q'\n"));
    assert_eq!((found.line, found.column), (6, 8));
    assert_eq!(
        found.problem,
        Problem::Duplicate {
            value: "\"main\"".to_owned(),
            first_line: 2
        }
    );
    let long = format!("[[pool]]\nname = 'm'\npath = '{}'\n", "x".repeat(5000));
    assert!(
        refusal(&long)
            .to_string()
            .contains("5000 bytes is more than the most allowed")
    );
    let many: String = (0..65)
        .map(|n| format!("[[pool]]\nname='p{n}'\npath='{n}'\n"))
        .collect();
    let found = refusal(&many);
    assert_eq!(found.remedy, "keep 64 or fewer [[pool]]");
}

#[test]
#[rustfmt::skip] // one row a line
fn pools_in_memory() {
    check(
        "[[pool]]\nname = 'm'\n",
        &[
            ("memory = '1MiB'", (3, 10), "pool.memory", "1MiB is less", "\"64MiB\" or more"),
            ("memory = '2TiB'", (3, 10), "pool.memory", "2TiB is more", "\"1TiB\" or less"),
            ("memory = '65537KiB'", (3, 10), "pool.memory", "multiple", "\"65MiB\""),
            ("memory = '1GB'", (3, 10), "pool.memory", "not a size", "write \"1GiB\""),
            ("memory = true", (3, 10), "pool.memory", "true or false stands", "with the quotes"),
            ("memory = '1GiB'\npath = 'p'", (4, 8), "pool.path", "(line 3)", "remove memory"),
            ("path = 'p'\nmemory = '1GiB'", (3, 8), "pool.path", "(line 4)", "or path"),
            ("memory = '1GiB'\nsize = '1GiB'", (4, 8), "pool.size", "(line 3)", "remove size"),
            ("size = '1GiB'", (1, 1), "pool.path", "missing", "path = \"var/main.pool\""),
            ("memry = '1GiB'", (3, 1), "pool.memry", "no such key", "did you mean memory?"),
        ],
    );
    let volume = "[[volume]]\nname='v'\npool='m'\nsize='1GiB'\n";
    let found = refusal(&format!("[[pool]]\nname = 'm'\nmemory = '64MiB'\n{volume}"));
    assert_eq!(
        found.to_string(),
        "c.toml:3:10: pool.memory: the journals of the volumes in pool \"m\" take 64MiB of its \
         64MiB; make the pool larger than 64MiB, or the journals smaller"
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn volumes() {
    check(
        &format!("{POOL}[[volume]]\nname = 'v'\npool = 'main'\n"),
        &[
            ("", (5, 1), "volume.size", "missing", "write size = \"1GiB\""),
            ("size = '0'", (8, 8), "volume.size", "0 is less", "\"1MiB\" or more"),
            ("size = '300TiB'", (8, 8), "volume.size", "300TiB is more", "\"256TiB\" or less"),
            ("size = '1048577'", (8, 8), "volume.size", "multiple of 4KiB", "\"1028KiB\""),
            ("size = 1073741824", (8, 8), "volume.size", "a number", "write \"1073741824\""),
            ("size='1GiB'\nblock_size = 1024", (9, 14), "volume.block_size", "1024", "512 or 4096"),
            ("size='1GiB'\nblock_size = 0", (9, 14), "volume.block_size", "0 is less", "512"),
            ("size='1GiB'\nblock_size = '4KiB'", (9, 14), "volume.block_size", "text", "number"),
            ("size='1GiB'\njournal = '8MiB'", (9, 11), "volume.journal", "less", "\"16MiB\""),
            ("size='1GiB'\nallow_hosts = []", (9, 15), "volume.allow_hosts", "empty", "remove"),
            ("size='1GiB'\nallow_hosts = ['me']", (9, 16), "volume.allow_hosts", "NQN", "hostnqn"),
            ("size='1GiB'\nallow_hosts = [1]", (9, 16), "volume.allow_hosts", "number", "quotes"),
            (
                "size='1GiB'\nallow_hosts = ['nqn.2026-11.a:b', 'nqn.2026-11.a:b']",
                (9, 35),
                "volume.allow_hosts",
                "twice, first in line 9",
                "remove one",
            ),
        ],
    );
    check(
        POOL,
        &[
            ("[[volume]]\nname='a'\npool = 'man'", (7, 8),
                "volume.pool",
                "no pool \"man\"",
                "mean \"main\"?",
            ),
            ("[[volume]]\nname='a'\npool = 'zzz'", (7, 8), "volume.pool", "no pool", "are: main"),
        ],
    );
    check(
        &format!("{POOL}{VOLUME}"),
        &[(
            "[[volume]]\nname = 'demo'\npool = 'main'\nsize = '1GiB'\n",
            (10, 8),
            "volume.name",
            "\"demo\" is here twice, first in line 6",
            "its own name",
        )],
    );
}

#[test]
fn more_volumes_than_one_file_may_name() {
    let pool = "[[pool]]\nname='main'\npath='p'\n";
    let volume = |n| format!("[[volume]]\nname='v{n}'\npool='main'\nsize='1GiB'\n");
    let volumes = |count: usize| (0..count).map(volume).collect::<String>();
    assert!(Config::parse(&format!("{pool}{}", volumes(1024)), "c.toml").is_ok());
    let found = refusal(&format!("{pool}{}", volumes(1025)));
    assert_eq!((found.line, found.key.as_str()), (4, "volume"), "{found}");
    assert_eq!(found.remedy, "keep 1024 or fewer [[volume]]");
}

#[test]
fn journals_that_take_the_whole_pool() {
    let volume = |n| format!("[[volume]]\nname='v{n}'\npool='main'\nsize='1GiB'\njournal='2GiB'\n");
    assert!(Config::parse(&format!("{POOL}{}", volume(1)), "c.toml").is_ok());
    let found = refusal(&format!("{POOL}{}{}", volume(1), volume(2)));
    assert_eq!(
        found.to_string(),
        "c.toml:4:8: pool.size: the journals of the volumes in pool \"main\" take 4GiB of its \
         4GiB; make the pool larger than 4GiB, or the journals smaller"
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn nvme_tcp() {
    check(
        &format!("{POOL}[nvme_tcp]\n"),
        &[
            ("listen = '1.2.3.4:1'", (6, 10), "nvme_tcp.listen", "a text", "in brackets"),
            ("listen = []", (6, 10), "nvme_tcp.listen", "empty", "at least one address"),
            ("listen = [4420]", (6, 11), "nvme_tcp.listen", "a number", "an IP address"),
            ("listen = ['10.0.0.1']", (6, 11), "nvme_tcp.listen", "not an", "\"10.0.0.1:4420\""),
            ("listen = ['::1']", (6, 11), "nvme_tcp.listen", "not an", "\"[::1]:4420\""),
            ("listen = [':4420']", (6, 11), "nvme_tcp.listen", "not an", "\"0.0.0.0:4420\""),
            ("listen = ['localhost:1']", (6, 11), "nvme_tcp.listen", "not an", "\"127.0.0.1:1\""),
            ("listen = ['a.example:1']", (6, 11), "nvme_tcp.listen", "not an", "not looked up"),
            ("listen = ['10.0.0.1:0']", (6, 11), "nvme_tcp.listen", "not an", "a fixed port"),
            ("listen = ['239.0.0.1:1']", (6, 11), "nvme_tcp.listen", "", "of this machine"),
            ("listen = ['1.2.3.4:1',\n'1.2.3.4:1']", (7, 1), "nvme_tcp.listen", "twice", "keep"),
            (
                "listen = ['0.0.0.0:1',\n'1.2.3.4:1']",
                (7, 1),
                "nvme_tcp.listen",
                "1.2.3.4:1 overlaps 0.0.0.0:1 of line 6",
                "keep one",
            ),
            ("max_queues = 0", (6, 14), "nvme_tcp.max_queues", "0 is less", "1 or more"),
            ("max_queues = 1025", (6, 14), "nvme_tcp.max_queues", "more", "1024 or less"),
            ("max_queues = 99999999999999999999", (6, 14), "nvme_tcp.max_queues", "more", "1024"),
            ("max_queues = 1_025", (6, 14), "nvme_tcp.max_queues", "1025 is more", "1024"),
            ("queue_depth = 31", (6, 15), "nvme_tcp.queue_depth", "31 is less", "32 or more"),
            ("queue_depth = 0x401", (6, 15), "nvme_tcp.queue_depth", "0x401 is more", "1024"),
            ("max_io = '64KiB'", (6, 10), "nvme_tcp.max_io", "less", "\"128KiB\" or more"),
            ("max_io = '2MiB'", (6, 10), "nvme_tcp.max_io", "more", "\"1MiB\" or less"),
            ("max_io = '384KiB'", (6, 10), "nvme_tcp.max_io", "power of two", "\"512KiB\""),
            ("max_io = '129KiB'", (6, 10), "nvme_tcp.max_io", "power of two", "\"256KiB\""),
            (
                "in_capsule = '9KiB'",
                (6, 14),
                "nvme_tcp.in_capsule",
                "multiple of 4KiB",
                "\"12KiB\"",
            ),
            ("in_capsule = '68KiB'", (6, 14), "nvme_tcp.in_capsule", "more", "\"64KiB\" or less"),
            ("in_capsule = '0'", (6, 14), "nvme_tcp.in_capsule", "less", "\"4KiB\" or more"),
            ("max_connections = 1", (6, 19), "nvme_tcp.max_connections", "less", "2 or more"),
            (
                "max_connections = 32",
                (6, 19),
                "nvme_tcp.max_connections",
                "one host may open 65 connections, but only 32",
                "max_connections = 65 or more, or max_queues = 31 or less",
            ),
            (
                "max_queues = 1024",
                (6, 14),
                "nvme_tcp.max_connections",
                "one host may open 1025",
                "max_connections = 1025 or more",
            ),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn nvme_rdma() {
    check(
        &format!("{POOL}[nvme_rdma]\n"),
        &[
            ("queue_depth = 64", (5, 1), "nvme_rdma.listen", "missing", "[\"10.0.0.1:4420\"]"),
            ("listen = []", (6, 10), "nvme_rdma.listen", "empty", "or remove [nvme_rdma]"),
            ("listen = ['10.0.0.1']", (6, 11), "nvme_rdma.listen", "not an", "\"10.0.0.1:4420\""),
            ("listen = ['0.0.0.0:1',\n'1.2.3.4:1']", (7, 1), "nvme_rdma.listen", "1.2.3.4:1 overlaps 0.0.0.0:1 of line 6", "keep one"),
            ("listen = ['1.2.3.4:1',\n'1.2.3.4:1']", (7, 1), "nvme_rdma.listen", "twice", "keep"),
            ("listen = ['10.0.0.1:1']\nqueue_depth = 31", (7, 15), "nvme_rdma.queue_depth", "less", "32 or more"),
            ("listen = ['10.0.0.1:1']\nqueue_depth = 1025", (7, 15), "nvme_rdma.queue_depth", "more", "1024 or less"),
            ("listen = ['10.0.0.1:1']\nin_capsule = '20KiB'", (7, 14), "nvme_rdma.in_capsule", "more", "\"16KiB\" or less"),
            ("listen = ['10.0.0.1:1']\nin_capsule = '6KiB'", (7, 14), "nvme_rdma.in_capsule", "multiple of 4KiB", "\"8KiB\""),
            ("listen = ['10.0.0.1:1']\nin_capsule = 4096", (7, 14), "nvme_rdma.in_capsule", "a number", "write \"4096\""),
            ("listen = ['10.0.0.1:1']\nreceive_entries = 31", (7, 19), "nvme_rdma.receive_entries", "less", "32 or more"),
            ("listen = ['10.0.0.1:1']\nreceive_entries = 32769", (7, 19), "nvme_rdma.receive_entries", "more", "32768 or less"),
            ("listen = ['10.0.0.1:1']\nreceive_entries = 127", (7, 19), "nvme_rdma.receive_entries", "127 receives are fewer than the 128 entries", "128 or more"),
            ("listen = ['10.0.0.1:1']\nmax_io = '1MiB'", (7, 1), "nvme_rdma.max_io", "no such key", "max_io belongs below [nvme_tcp]"),
            ("listen = ['10.0.0.1:1']\nrecieve_entries = 1", (7, 1), "nvme_rdma.recieve_entries", "no such key", "mean receive_entries?"),
        ],
    );
}

#[test]
fn receives_that_take_the_buffers_of_a_core() {
    let with = |keys: &str| {
        format!("{POOL}[reactor]\nmemory = '32MiB'\n[nvme_rdma]\nlisten = ['1.2.3.4:1']\n{keys}\n")
    };
    assert!(Config::parse(&with(""), "c.toml").is_ok());
    let found = refusal(&with("receive_entries = 4033"));
    assert_eq!((found.line, found.column), (9, 19), "{found}");
    assert_eq!(
        found.remedy,
        "write less, or [reactor] memory = \"34MiB\" or more"
    );
    let found = refusal(&with("in_capsule = '16KiB'"));
    assert_eq!(found.key, "nvme_rdma.in_capsule");
    assert!(
        found.problem.to_string().contains("of the 32MiB"),
        "{found}"
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn iscsi() {
    check(
        &format!("{POOL}[iscsi]\n"),
        &[
            ("queue_depth = 1", (5, 1), "iscsi.listen", "missing", "[\"127.0.0.1:3260\"]"),
            ("listen = []", (6, 10), "iscsi.listen", "empty", "or remove [iscsi]"),
            ("listen = ['10.0.0.1:4420']\n[nvme_tcp]\nlisten = ['10.0.0.1:4420']", (8, 11), "nvme_tcp.listen", "twice", "keep one"),
            ("listen = ['127.0.0.1:4420']", (6, 11), "iscsi.listen", "overlaps", "nvme_tcp.listen"),
            ("listen = ['10.0.0.1:3260']\nqueue_depth = 1", (7, 15), "iscsi.queue_depth", "less", "2 or more"),
            ("listen = ['10.0.0.1:3260']\nqueue_depth = 513", (7, 15), "iscsi.queue_depth", "more", "512"),
            ("listen = ['10.0.0.1:3260']\nmax_connections = 0", (7, 19), "iscsi.max_connections", "less", "1"),
            ("listen = ['10.0.0.1:3260']\nsecrets = ''", (7, 11), "iscsi.secrets", "not a path", "secrets.toml"),
            ("listen = ['10.0.0.1:3260']\nsecret = 'x'", (7, 1), "iscsi.secret", "no such key", "secrets"),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn control_metrics_and_log() {
    check(
        POOL,
        &[
            ("[control]\nsocket = ''", (6, 10), "control.socket", "not a path", "bedplate.sock"),
            ("[control]\nmode = '0666'", (6, 8), "control.mode", "not a mode", "\"0600\""),
            ("[control]\nmode = 600", (6, 8), "control.mode", "a number stands", "\"0600\""),
            ("[metrics]\nlisten = '[::]'", (6, 10), "metrics.listen", "not an address", "port"),
            ("[metrics]\nlisten = []", (6, 10), "metrics.listen", "a list stands", "quotes"),
            (
                "[metrics]\nlisten = '0.0.0.0:4420'\n[nvme_tcp]\nlisten = ['10.0.0.1:4420']",
                (8, 11),
                "nvme_tcp.listen",
                "10.0.0.1:4420 overlaps 0.0.0.0:4420 of line 6",
                "change a port",
            ),
            ("[log]\nlevel = 'warning'", (6, 9), "log.level", "not a log level", "\"error\""),
            ("[log]\nlevel = 'inof'", (6, 9), "log.level", "not a log level", "mean \"info\"?"),
            ("[log]\nlevel = 3", (6, 9), "log.level", "a number stands", "one of \"error\""),
            ("[log]\nformat = 'xml'", (6, 10), "log.format", "not a log format", "\"json\""),
            ("[nvme_tcp]\nplacement = 'spraed'", (6, 13), "nvme_tcp.placement", "not a placement of connections", "mean \"spread\"?"),
            ("[nvme_tcp]\nplacement = 'core 1'", (6, 13), "nvme_tcp.placement", "not a placement of connections", "write one of \"spread\", \"home\""),
        ],
    );
    let long = format!("{POOL}[control]\nsocket = '/{}'\n", "s".repeat(107));
    let found = refusal(&long);
    assert_eq!(found.key, "control.socket");
    assert!(found.remedy.contains("107 bytes or less"), "{found}");
    let longest = format!("{POOL}[control]\nsocket = '/{}'\n", "s".repeat(106));
    assert!(Config::parse(&longest, "c.toml").is_ok());
}

/// The address nobody wrote is the default of a table that is not there.
#[test]
fn the_default_listener_counts_too() {
    let found = refusal(&format!("{POOL}[metrics]\nlisten = '127.0.0.1:4420'\n"));
    assert_eq!(
        (found.line, found.column, found.key.as_str()),
        (6, 10, "metrics.listen")
    );
    assert!(found.to_string().contains("default"), "{found}");
}

#[test]
fn columns_count_characters_and_long_values_are_clipped() {
    let found = refusal(&format!(
        "log = {{ format = 'ä', level = 'ö{}' }}\n{POOL}",
        "x".repeat(500)
    ));
    assert_eq!((found.line, found.column), (1, 31));
    assert!(found.to_string().len() < 250, "{found}");
    assert!(
        !refusal("[[pool]]\nname = \"\\u001b[31m\"\npath='p'")
            .to_string()
            .contains('\u{1b}')
    );
    assert!(
        !refusal("\"\\u001b[31m\" = 1")
            .to_string()
            .contains('\u{1b}')
    );
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Config::load("/nonexistent/bedplate.toml").unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("/nonexistent/bedplate.toml: cannot be read: ")
    );
    assert!(missing.finding().is_none());
    assert!(matches!(
        Config::load("/dev/zero"),
        Err(ConfigError::TooLarge { .. })
    ));
    assert!(matches!(Config::load("/"), Err(ConfigError::Read { .. })));

    let path = std::env::temp_dir().join(format!("bedplate-config-{}.toml", std::process::id()));
    std::fs::write(&path, b"[log]\nlevel = '\xff'\n").unwrap();
    let not_text = Config::load(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let finding = not_text.finding().expect("a refusal");
    assert_eq!((finding.line, finding.column), (2, 10));
    assert_eq!(finding.problem, Problem::NotText);
}
