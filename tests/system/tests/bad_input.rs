//! Bad input: a clear message, an exit code that is not 0, and not a byte changed on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use host::{Host, HostOptions};
use system_tests::files::{Fingerprint, fingerprint, flip_bit, read_at, write_at};
use system_tests::setup::free_address;
use system_tests::{Binary, Finished, Random, Server, Setup, nqn};
use wire::tcp::digest::crc32c;

/// Offsets of the two superblocks.
const SUPERBLOCKS: [u64; 2] = [0, 16 * 4096];

/// Fingerprints of everything in a directory but sockets, which a server makes and removes.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Option<Fingerprint>> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let files = paths.filter(|path| path.extension().is_none_or(|e| e != "sock"));
    files
        .map(|path| (path.clone(), fingerprint(&path)))
        .collect()
}

/// Runs `serve`, which must refuse, say all of `words`, and change nothing.
#[track_caller]
fn refuses(setup: &Setup, words: &[&str]) -> Finished {
    let arguments = ["serve", "--config", setup.config_name()];
    refuses_line(setup, &arguments, words)
}

#[track_caller]
fn refuses_line(setup: &Setup, arguments: &[&str], words: &[&str]) -> Finished {
    let before = snapshot(setup.directory());
    let finished = Binary::find().run(setup.directory(), arguments);
    assert_eq!(
        snapshot(setup.directory()),
        before,
        "files changed\n{finished}"
    );
    complains(finished, words)
}

/// An exit code that is not 0, and a message on standard error with all of `words`.
#[track_caller]
fn complains(finished: Finished, words: &[&str]) -> Finished {
    assert!(
        matches!(finished.code, Some(code) if code != 0 && code < 100),
        "{finished}"
    );
    assert!(!finished.stderr.contains("panicked"), "{finished}");
    let said = finished.text().to_lowercase();
    for word in words {
        assert!(
            said.contains(&word.to_lowercase()),
            "no '{word}' in:\n{finished}"
        );
    }
    finished
}

/// A pool with one volume that holds a block of data, closed cleanly.
fn used_pool() -> Setup {
    let mut server = Server::start(Setup::simple("128MiB", "demo", "64MiB"));
    let mut controller =
        Host::connect(server.address(), &nqn("demo"), HostOptions::default()).expect("connects");
    let mut queues = controller.io_queues(1).expect("an I/O queue");
    queues[0]
        .write(7, &Random::new(1).bytes(65536), true)
        .expect("the write");
    drop((queues, controller));
    server.terminate();
    server.into_setup()
}

fn pool_file(setup: &Setup) -> PathBuf {
    setup.pool_path("main")
}

#[test]
fn a_pool_that_is_not_there_and_has_no_size() {
    let setup = Setup::simple("128MiB", "demo", "64MiB");
    setup.write_text(&setup.config().replace("size = \"128MiB\"\n", ""));
    refuses(&setup, &["main.pool", "size"]);
}

#[test]
fn commands_about_a_pool_that_is_not_there() {
    let setup = Setup::new();
    let fsck = refuses_line(&setup, &["fsck", "gone.pool"], &["gone.pool"]);
    assert_eq!(fsck.code, Some(2), "{fsck}");
    refuses_line(&setup, &["pool", "show", "gone.pool"], &["gone.pool"]);
    let in_no_folder = [
        "pool",
        "create",
        "no/such/x.pool",
        "--name",
        "x",
        "--size",
        "128MiB",
    ];
    refuses_line(&setup, &in_no_folder, &["no/such"]);
}

#[test]
fn a_folder_that_is_not_there() {
    let setup = Setup::simple("128MiB", "demo", "64MiB");
    setup.write_text(
        &setup
            .config()
            .replace("main.pool", "no/such/folder/main.pool"),
    );
    refuses(&setup, &["no/such/folder", "does not exist"]);
}

#[test]
fn foreign_files_are_named_for_what_they_are() {
    type Make = fn(&Path);
    let rows: [(&str, Make); 4] = [
        ("ext2/3/4", |path| {
            format_as(path, "mkfs.ext4", &["-q", "-F"])
        }),
        ("xfs", |path| format_as(path, "mkfs.xfs", &["-q", "-f"])),
        ("zero", |_path| ()),
        ("not a bedplate pool", |path| {
            write_at(path, 0, &Random::new(5).bytes(1 << 20))
        }),
    ];
    for (word, make) in rows {
        let setup = Setup::simple("512MiB", "demo", "64MiB");
        setup.write_config();
        let path = pool_file(&setup);
        File::create(&path)
            .and_then(|file| file.set_len(512 << 20))
            .expect("an image");
        make(&path);
        refuses(&setup, &["main.pool", word]);
        let fsck = refuses_line(&setup, &["fsck", "main.pool"], &["main.pool"]);
        assert_eq!(fsck.code, Some(2), "{fsck}");
        let create = [
            "pool",
            "create",
            "main.pool",
            "--name",
            "main",
            "--size",
            "512MiB",
        ];
        refuses_line(&setup, &create, &["main.pool"]);
    }
}

fn format_as(path: &Path, program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).arg(path).output();
    let output = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_empty_file_and_a_short_one() {
    for len in [0, 100, 4096] {
        let setup = Setup::simple("128MiB", "demo", "64MiB");
        setup.write_config();
        fs::write(pool_file(&setup), vec![b'x'; len]).expect("a file");
        refuses(&setup, &["main.pool"]);
    }
}

#[test]
fn a_folder_as_pool() {
    let setup = Setup::simple("128MiB", "demo", "64MiB");
    setup.write_config();
    fs::create_dir(pool_file(&setup)).expect("a folder");
    refuses(&setup, &["main.pool", "director"]);
}

#[test]
fn damaged_superblocks_one_is_survived_two_are_refused() {
    let setup = used_pool();
    let path = pool_file(&setup);
    for offset in SUPERBLOCKS {
        flip_bit(&path, offset + 40);
    }
    refuses(&setup, &["main.pool", "both superblocks"]);
    flip_bit(&path, SUPERBLOCKS[0] + 40);
    let mut server = Server::start(setup);
    server.terminate();
}

#[test]
fn a_damaged_root_is_refused() {
    let setup = used_pool();
    let path = pool_file(&setup);
    // Both root slots: the volume record that counts is in one of them.
    let superblock = read_at(&path, SUPERBLOCKS[0], 4096);
    let field = |at: usize| u64::from_le_bytes(superblock[at..at + 8].try_into().expect("8"));
    let (root_block, root_blocks) = (field(72), field(80));
    for slot in 0..2 {
        flip_bit(&path, (root_block + slot * root_blocks) * 4096 + 80);
    }
    refuses(&setup, &["main.pool", "root", "damaged"]);
    let fsck = refuses_line(&setup, &["fsck", "main.pool"], &["root"]);
    assert_eq!(fsck.code, Some(1), "{fsck}");
}

#[test]
fn a_newer_format_is_refused() {
    let setup = used_pool();
    let path = pool_file(&setup);
    for offset in SUPERBLOCKS {
        let mut block = read_at(&path, offset, 4096);
        // Format version and the least version that can read it, then the checksum.
        block[12..16].copy_from_slice(&[9, 0, 9, 0]);
        block[8..12].fill(0);
        let crc = crc32c(&block);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        write_at(&path, offset, &block);
    }
    refuses(&setup, &["main.pool", "version 9", "newer"]);
    let fsck = refuses_line(&setup, &["fsck", "main.pool"], &["version 9"]);
    assert_eq!(fsck.code, Some(2), "{fsck}");
}

#[test]
fn a_truncated_pool_is_refused() {
    let setup = used_pool();
    let path = pool_file(&setup);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the pool");
    file.set_len(100 << 20).expect("truncating");
    refuses(
        &setup,
        &["main.pool", "truncated", "104857600", "134217728"],
    );
}

#[test]
fn two_servers_on_one_pool() {
    let server = Server::start(Setup::simple("128MiB", "demo", "64MiB"));
    let mut second = Setup::simple("128MiB", "other", "64MiB");
    let shared = pool_file(&server.setup).display().to_string();
    second.address = free_address();
    second.write_text(&second.config().replace("main.pool", &shared));
    let before = fingerprint(&pool_file(&server.setup));
    refuses(&second, &[&shared, "in use"]);
    assert_eq!(fingerprint(&pool_file(&server.setup)), before);
    let fsck = refuses_line(&second, &["fsck", &shared], &["in use"]);
    assert_eq!(fsck.code, Some(2), "{fsck}");
    Host::connect(server.address(), &nqn("demo"), HostOptions::default())
        .expect("the first server is unharmed");
}

#[test]
fn ports_in_use() {
    let setup = used_pool();
    for (address, word) in [(setup.address, "nvme"), (setup.metrics, "metrics")] {
        let _holder = TcpListener::bind(address).expect("the port is free");
        refuses(&setup, &[&address.to_string(), "in use", word]);
    }
}

#[test]
fn a_control_socket_that_cannot_be() {
    let setup = used_pool();
    // Below a file, and in place of one.
    for place in ["main.pool/control.sock", "main.pool"] {
        setup.write_text(&setup.config().replace("control.sock", place));
        refuses(&setup, &["control", "main.pool"]);
    }
}

#[test]
fn a_control_socket_of_a_running_server() {
    let server = Server::start(Setup::simple("128MiB", "demo", "64MiB"));
    let second = Setup::simple("128MiB", "other", "64MiB");
    let socket = server.setup.socket().display().to_string();
    second.write_text(&second.config().replace("control.sock", &socket));
    let finished = Binary::find().run(second.directory(), &["serve", "--config", "bedplate.toml"]);
    complains(finished, &[&socket]);
    let _ = server.cli_json(&["status"]);
}

#[test]
fn configurations_that_cannot_be_read() {
    let setup = Setup::simple("128MiB", "demo", "64MiB");
    refuses(&setup, &["bedplate.toml", "no such file"]);
    fs::create_dir(setup.directory().join("bedplate.toml")).expect("a folder");
    refuses(&setup, &["bedplate.toml", "director"]);
    fs::remove_dir(setup.directory().join("bedplate.toml")).expect("the folder");
    let path = setup.directory().join("bedplate.toml");
    fs::write(&path, [0xff, 0xfe, 0x00]).expect("a file");
    refuses(&setup, &["bedplate.toml", "utf-8"]);
    setup.write_text("[[pool]\nname = 3");
    refuses(&setup, &["bedplate.toml:1"]);
}

#[test]
fn configurations_that_say_something_impossible() {
    let good = Setup::simple("128MiB", "demo", "64MiB");
    let duplicate = Setup::simple("128MiB", "demo", "64MiB").volume("demo", "32MiB", 4096);
    let pools = Setup::new().pool("main", "128MiB").pool("main", "128MiB");
    let rows: [(String, &[&str]); 9] = [
        (
            good.config().replace("block_size", "block_sise"),
            &["block_sise", "block_size"],
        ),
        (
            good.config().replace("[control]", "[contrl]"),
            &["contrl", "control"],
        ),
        (
            good.config().replace("\"64MiB\"", "\"300TiB\""),
            &["300TiB", "256TiB"],
        ),
        (
            good.config().replace("\"64MiB\"", "\"many\""),
            &["many", "size"],
        ),
        (
            good.config().replace("4096", "1234"),
            &["1234", "512", "4096"],
        ),
        (duplicate.config(), &["demo", "twice"]),
        (pools.config(), &["main", "twice"]),
        (
            good.config().replace("pool = \"main\"", "pool = \"mian\""),
            &["mian", "main"],
        ),
        (
            good.config()
                .replace("[reactor]\n", "[reactor]\ncores = [977]\n"),
            &["977"],
        ),
    ];
    for (text, words) in rows {
        let setup = Setup::new();
        setup.write_text(&text);
        let mut all = vec!["core"];
        // Whether a core exists is not known from the file alone.
        if !text.contains("977") {
            all = vec!["bedplate.toml:"];
        }
        all.extend_from_slice(words);
        refuses(&setup, &all);
    }
}

#[test]
fn a_volume_whose_journal_does_not_fit_harms_nothing() {
    let mut setup = used_pool();
    // Alone it would fit; the volume that the pool holds already is not in the configuration.
    setup.pools[0].journal = "120MiB".to_owned();
    setup.volumes.clear();
    let setup = setup.volume("greedy", "64MiB", 4096);
    setup.write_config();
    let binary = Binary::find();
    let serve = ["serve", "--config", setup.config_name()];
    complains(
        binary.run(setup.directory(), &serve),
        &["greedy", "journal", "120MiB"],
    );
    binary
        .run(setup.directory(), &["fsck", "main.pool"])
        .expect_code(0);
    let pool = binary
        .run(setup.directory(), &["pool", "show", "main.pool"])
        .expect_code(0);
    assert!(
        pool.stdout.contains("demo") && !pool.stdout.contains("greedy"),
        "{pool}"
    );
}

#[test]
fn impossible_volumes_of_a_running_server() {
    let server = Server::start(Setup::simple("128MiB", "demo", "64MiB"));
    let before = server.cli_json(&["volume", "list"]);
    let rows: [(&[&str], &[&str]); 7] = [
        (&["create", "demo", "--size", "32MiB"], &["demo", "exists"]),
        (
            &["create", "huge", "--size", "300TiB"],
            &["300TiB", "256TiB"],
        ),
        (
            &["create", "odd", "--size", "1000001"],
            &["1000001", "4KiB"],
        ),
        (
            &["create", "x", "--size", "1MiB", "--pool", "mian"],
            &["mian", "main"],
        ),
        (&["create", "Bad Name", "--size", "1MiB"], &["Bad Name"]),
        (&["delete", "gone", "--yes"], &["gone", "demo"]),
        (&["show", "gone"], &["gone", "demo"]),
    ];
    for (arguments, words) in rows {
        let mut line = vec!["volume"];
        line.extend_from_slice(arguments);
        complains(server.cli(&line), words);
    }
    complains(
        server.cli(&["volume", "delete", "demo"]),
        &["demo", "--yes"],
    );
    assert_eq!(server.cli_json(&["volume", "list"]), before);
}

#[test]
fn commands_without_a_server() {
    let setup = Setup::new();
    for arguments in [
        &["status"][..],
        &["volume", "list"],
        &["connect-info", "demo"],
    ] {
        let mut line = vec!["--socket", "gone.sock"];
        line.extend_from_slice(arguments);
        refuses_line(&setup, &line, &["gone.sock", "serve"]);
    }
}
