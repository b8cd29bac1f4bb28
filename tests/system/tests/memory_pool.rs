//! A pool in memory: it serves hosts as any other, says everywhere that it keeps nothing, and does.

use system_tests::{Finished, Random, Server, Setup};

const MIB: u64 = 1 << 20;

/// A pool of each kind, with a volume in each.
fn both() -> Setup {
    Setup::new()
        .pool("main", "128MiB")
        .volume("kept", "64MiB", 4096)
        .pool_in_memory("ram", "1GiB")
        .volume("fleeting", "512MiB", 4096)
}

#[track_caller]
fn says(finished: Finished, code: i32, words: &[&str]) {
    let text = finished.expect_code(code).text();
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

/// The one object of a list that has this name.
fn named(list: &serde_json::Value, name: &str) -> serde_json::Value {
    let objects = list.as_array().expect("a list");
    let found = objects.iter().find(|object| object["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {list}"))
        .clone()
}

#[test]
fn hosts_use_it_as_any_other_and_a_restart_empties_it() {
    let mut server = Server::start(both());
    let mut uuids = Vec::new();
    for kill in [false, true, false] {
        let uuid = server.cli_json(&["volume", "show", "fleeting"])["uuid"].clone();
        assert!(!uuids.contains(&uuid), "an empty volume is another one");
        uuids.push(uuid);
        for volume in ["fleeting", "kept"] {
            let (_controller, mut queue) = server.connect(volume);
            let small = Random::new(1).bytes(4096);
            let large = Random::new(2).bytes(MIB as usize);
            let empty = volume == "fleeting" || uuids.len() == 1;
            let found = queue.read(7, 1).expect("Read");
            let expected = if empty { vec![0; 4096] } else { small.clone() };
            assert!(found == expected, "{volume}, start {}", uuids.len());
            queue.write(7, &small, true).expect("Write with FUA");
            queue.write(1024, &large, false).expect("Write");
            queue.flush().expect("Flush");
            assert!(queue.read(7, 1).expect("Read") == small);
            assert!(queue.read(1024, 256).expect("Read") == large);
            queue.deallocate(&[(1024, 256)]).expect("Deallocate");
            assert!(queue.read(1024, 256).expect("Read") == vec![0; MIB as usize]);
        }
        if kill {
            server.kill();
        } else {
            server.terminate();
        }
        server.launch();
    }
}

#[test]
fn the_start_and_every_listing_say_that_it_keeps_nothing() {
    let server = Server::start(both());
    let log = server.log().join("\n");
    let warning = "warning: pool ram is in memory and keeps nothing";
    assert!(log.contains(warning), "{log}");
    assert!(!log.contains("pool main is in memory"), "{log}");

    for command in [
        &["volume", "list"][..],
        &["volume", "show", "fleeting"],
        &["status"],
    ] {
        says(server.cli(command), 0, &["live, keeps nothing"]);
    }
    says(
        server.cli(&["status"]),
        0,
        &["ok, keeps nothing", "in memory", "main.pool"],
    );
    let kept = server.cli(&["volume", "show", "kept"]).expect_code(0);
    assert!(!kept.text().contains("keeps nothing"), "{kept}");

    let status = server.cli_json(&["status"]);
    let ram = named(&status["pools"], "ram");
    assert_eq!(
        (&ram["volatile"], &ram["path"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let main = named(&status["pools"], "main");
    assert_eq!(
        (&main["volatile"], &main["path"]),
        (&false.into(), &"main.pool".into())
    );
    let volumes = server.cli_json(&["volume", "list"]);
    assert_eq!(named(&volumes, "fleeting")["volatile"], true);
    assert_eq!(named(&volumes, "kept")["volatile"], false);
    let metrics = server.metrics();
    for line in [
        "bedplate_pool_volatile{pool=\"ram\"} 1",
        "{pool=\"main\"} 0",
    ] {
        assert!(metrics.contains(line), "no {line} in:\n{metrics}");
    }
}

#[test]
fn commands_for_files_say_that_there_is_none() {
    let mut server = Server::start(both());
    says(
        server.cli(&["pool", "show", "ram"]),
        0,
        &["in memory", "ok, keeps nothing"],
    );
    let shown = server.cli_json(&["pool", "show", "ram"]);
    assert_eq!(shown["volatile"], true);
    assert_eq!(
        shown["size_bytes"].as_u64().map(|bytes| bytes > 1000 * MIB),
        Some(true)
    );
    says(
        server.cli(&["fsck", "ram"]),
        2,
        &["nothing was checked", "keeps nothing"],
    );
    let create = ["pool", "create", "ram", "--name", "ram"];
    says(
        server.cli(&create),
        1,
        &["no pool was made", "keeps nothing"],
    );
    server.terminate();
    says(server.cli(&["fsck", "ram"]), 2, &["ram: does not exist"]);
    let shown = server.cli_json(&["pool", "show", "main.pool"]);
    assert_eq!(shown["volatile"], false);
}

#[test]
fn volumes_come_and_go_and_a_full_pool_says_so() {
    let server = Server::start(Setup::new().pool_in_memory("ram", "128MiB"));
    let create = ["volume", "create", "guest", "--size", "256MiB"];
    says(server.cli(&create), 0, &["live, keeps nothing"]);
    let (controller, mut queue) = server.connect("guest");
    let data = Random::new(3).bytes(MIB as usize);
    let written = (0..256)
        .take_while(|at| queue.write(at * 256, &data, false).is_ok())
        .count();
    assert!(
        (16..128).contains(&written),
        "{written} MiB in a pool of 128 MiB"
    );
    for at in 0..written as u64 {
        assert!(queue.read(at * 256, 256).expect("Read") == data, "MiB {at}");
    }
    drop((controller, queue));
    says(
        server.cli(&["volume", "delete", "guest", "--yes"]),
        0,
        &["deleted guest"],
    );
    says(
        server.cli(&["volume", "create", "next", "--size", "1GiB"]),
        0,
        &["keeps nothing"],
    );
}

/// A fault in the middle of a measurement would be part of it.
#[test]
fn memory_is_taken_at_the_start() {
    let server = Server::start(
        Setup::new()
            .pool_in_memory("ram", "1GiB")
            .volume("v", "512MiB", 4096),
    );
    let empty = server.process().resident_bytes();
    assert!(
        empty >= 1024 * MIB,
        "{} MiB right after the start",
        empty / MIB
    );
    let (_controller, mut queue) = server.connect("v");
    let data = Random::new(4).bytes(MIB as usize);
    for at in 0..256 {
        queue.write(at * 256, &data, false).expect("Write");
    }
    let grown = server.process().resident_bytes().saturating_sub(empty);
    assert!(
        grown < 128 * MIB,
        "{} MiB more for 256 MiB written",
        grown / MIB
    );
}

#[test]
fn more_than_the_machine_has_is_refused_at_the_start() {
    let mut setup = Setup::new();
    for pool in 0..64 {
        setup = setup.pool_in_memory(&format!("ram{pool}"), "1TiB");
    }
    setup.write_config();
    let binary = system_tests::Binary::find();
    let arguments = ["serve", "--config", setup.config_name()];
    let words = [
        "the pools in memory take 64TiB",
        "available",
        "less `memory`",
    ];
    says(binary.run(setup.directory(), &arguments), 1, &words);
    assert!(!setup.socket().exists(), "nothing was opened");
}
