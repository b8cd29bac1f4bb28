//! Start, stop, restart; volumes that come and go beside others; a pool that is full.
#![expect(
    clippy::disallowed_methods,
    reason = "a real process runs on the real clock"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::{Controller, Host, HostError, HostOptions, IoQueue, Op};
use nix::sys::signal::Signal;
use system_tests::checker::{Region, Tally};
use system_tests::files::{find, flip_bit};
use system_tests::{Random, Server, Setup, nqn};
use wire::nvme::Status;
use wire::nvme::command::AsyncEvent;
use wire::nvme::feature::{FeatureId, async_event};
use wire::nvme::identify::{Cns, Csi};
use wire::nvme::log::LogId;

const MIB: usize = 1 << 20;

fn fsck(server: &Server) -> system_tests::Finished {
    server
        .binary
        .run(server.setup.directory(), &["fsck", "main.pool"])
}

/// Runs the checking client while `meanwhile` happens, then ends it.
fn under_load<T>(
    region: &mut Region,
    queue: &mut IoQueue,
    may_lose_connection: bool,
    meanwhile: impl FnOnce() -> T,
) -> (Tally, T) {
    let (stop, killed) = (AtomicBool::new(false), AtomicBool::new(may_lose_connection));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| region.load(queue, 16, &stop, &killed));
        let result = meanwhile();
        stop.store(true, Ordering::SeqCst);
        let tally = load.join().expect("the load does not panic");
        (tally.unwrap_or_else(|what| panic!("{what}")), result)
    })
}

#[test]
fn termination_signals_under_load_exit_with_0_and_lose_nothing() {
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let mut region = Region::new(0, 0, 4096, 4096, 3);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM] {
        let (controller, mut queue) = server.connect("demo");
        region.verify(&mut queue).expect("everything is there");
        let (tally, code) = under_load(&mut region, &mut queue, true, || {
            std::thread::sleep(Duration::from_millis(300));
            server.stop(signal)
        });
        assert_eq!(code, Some(0), "exit code after {signal}");
        assert!(tally.changes > 20, "hardly any load: {tally:?}");
        drop((controller, queue));
        fsck(&server).expect_code(0);
        server.launch();
    }
    let (_controller, mut queue) = server.connect("demo");
    region.verify(&mut queue).expect("everything is there");
}

#[test]
fn a_signal_right_after_ready_exits_with_0() {
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    for round in 0..20 {
        let signal = if round % 2 == 0 {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        };
        assert_eq!(server.stop(signal), Some(0), "round {round}, {signal}");
        server.launch();
    }
}

#[test]
fn requests_in_flight_at_a_signal_are_answered() {
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = server.connect("demo");
    let block = Random::new(9).bytes(4096);
    for lba in 0..100 {
        queue
            .submit(Op::Write {
                lba,
                data: block.clone(),
                fua: true,
            })
            .expect("submit");
    }
    // The capsules have arrived in order: once the last one but a few is answered, all are there.
    queue
        .next_completion()
        .expect("a completion")
        .ok("Write")
        .expect("the write");
    server.process().signal(Signal::SIGTERM);
    for answered in 1..100 {
        let done = queue.next_completion();
        let done = done.unwrap_or_else(|error| panic!("after {answered} answers: {error}"));
        done.ok("Write").expect("the write");
    }
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn every_form_of_a_connection_carries_the_same_data() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    for case in 0..64u64 {
        let on = |bit: u64| case >> bit & 1 != 0;
        let options = HostOptions {
            header_digest: on(0),
            data_digest: on(1),
            in_capsule: on(2),
            hpda: if on(3) { 31 } else { 0 },
            sq_flow_control: on(4),
            max_r2t: if on(5) { 4 } else { 1 },
            ..HostOptions::default()
        };
        let controller = Host::connect(server.address(), &nqn("demo"), options.clone());
        let mut controller = controller.unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let mut queue = controller.io_queues(1).expect("an I/O queue").remove(0);
        for (lba, len) in [(1, 4096), (2, 8192), (5, 12288), (4096, MIB)] {
            let data = Random::new(case).bytes(len);
            queue.write(lba, &data, false).expect("Write");
            let read = queue.read(lba, (len / 4096) as u32).expect("Read");
            assert!(
                read == data,
                "LBA {lba}, {len} bytes: other data with {options:?}"
            );
        }
    }
}

/// What a Linux host compares when a controller comes back.
fn identifiers(controller: &mut Controller) -> Vec<String> {
    let identity = controller
        .identify_controller()
        .expect("Identify Controller");
    let namespace = controller
        .identify_namespace(1)
        .expect("Identify Namespace");
    let descriptors = controller.identify(Cns::NAMESPACE_DESCRIPTORS, 1, Csi::NVM);
    let descriptors = descriptors.expect("identification descriptors");
    vec![
        format!("{:?} {:?} {:?}", identity.sn, identity.mn, identity.subnqn),
        format!(
            "{:02x?} {:02x?} {}",
            namespace.nguid, namespace.eui64, namespace.nsze
        ),
        format!("{:02x?}", &descriptors[..64]),
    ]
}

#[test]
fn identifiers_never_change() {
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (mut controller, queue) = server.connect("demo");
    let first = identifiers(&mut controller);
    drop((controller, queue));
    for kill in [false, true, false] {
        if kill {
            server.kill();
        } else {
            server.terminate();
        }
        server.launch();
        let (mut controller, _queue) = server.connect("demo");
        assert_eq!(identifiers(&mut controller), first, "killed: {kill}");
    }
    let uuid = server.cli_json(&["volume", "show", "demo"])["uuid"].clone();
    let hex = uuid.as_str().expect("a UUID").replace('-', "");
    let bytes = first[2].replace(", ", "");
    assert!(bytes.contains(&hex), "{hex} is not what hosts see: {bytes}");
}

#[test]
fn volumes_come_and_go_while_another_one_works() {
    let mut server = Server::start(Setup::simple("512MiB", "demo", "64MiB"));
    let (_controller, mut queue) = server.connect("demo");
    let mut region = Region::new(0, 0, 4096, 4096, 4);
    let (tally, ()) = under_load(&mut region, &mut queue, false, || {
        for round in 0..5 {
            let block_size = if round % 2 == 0 { "4096" } else { "512" };
            let create = [
                "volume",
                "create",
                "guest",
                "--size",
                "32MiB",
                "--block-size",
                block_size,
            ];
            let _ = server.cli_json(&create);
            let (_controller, mut guest) = server.connect("guest");
            assert_eq!(
                guest.read(0, 64).expect("Read"),
                vec![0; 64 * guest.block_bytes()]
            );
            guest
                .write(0, &Random::new(round).bytes(MIB), false)
                .expect("Write");
            let _ = server.cli_json(&["volume", "delete", "guest", "--yes"]);
            let gone = guest.read(0, 1).expect_err("the volume is gone");
            let refused = Host::connect(server.address(), &nqn("guest"), HostOptions::default());
            assert!(refused.is_err(), "a deleted volume accepts hosts ({gone})");
        }
    });
    assert!(tally.changes > 100, "hardly any load: {tally:?}");
    region
        .verify(&mut queue)
        .expect("the other volume is unharmed");
    let names: Vec<String> = volume_names(&server);
    assert_eq!(names, ["demo"]);
    server.terminate();
    fsck(&server).expect_code(0);
}

fn volume_names(server: &Server) -> Vec<String> {
    let list = server.cli_json(&["volume", "list"]);
    let volumes = list.as_array().expect("a list").iter();
    volumes
        .map(|volume| volume["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_volume_made_at_run_time_survives_restarts() {
    let mut server = Server::start(Setup::simple("512MiB", "demo", "64MiB"));
    let _ = server.cli_json(&["volume", "create", "late", "--size", "32MiB"]);
    let data = Random::new(2).bytes(MIB);
    let (controller, mut queue) = server.connect("late");
    queue.write(100, &data, true).expect("Write");
    drop((controller, queue));
    server.kill();
    server.launch();
    assert_eq!(volume_names(&server), ["demo", "late"]);
    let (_controller, mut queue) = server.connect("late");
    assert!(queue.read(100, 256).expect("Read") == data);
}

#[test]
fn events_tell_about_volumes_that_come_and_go() {
    let server = Server::start(Setup::simple("512MiB", "demo", "64MiB"));
    let mut discovery =
        Host::discover(server.address(), HostOptions::default()).expect("discovery");
    discovery
        .set_feature(FeatureId::ASYNC_EVENT_CONFIG, async_event::DISCOVERY_LOG)
        .expect("event configuration");
    let mut generation = discovery.discovery_log().expect("the log").generation;
    let create = ["volume", "create", "guest", "--size", "32MiB"];
    for line in [&create[..], &["volume", "delete", "guest", "--yes"]] {
        let request = discovery
            .request_event()
            .expect("Asynchronous Event Request");
        let early = discovery
            .wait_event(request, Duration::from_millis(300))
            .expect("waiting");
        assert_eq!(early, None, "an event before anything happened");
        let _ = server.cli_json(line);
        let event = discovery
            .wait_event(request, Duration::from_secs(5))
            .expect("waiting");
        assert_eq!(
            event,
            Some(AsyncEvent::DISCOVERY_LOG_CHANGED),
            "after {line:?}"
        );
        let log = discovery.discovery_log().expect("the log");
        assert_ne!(log.generation, generation, "after {line:?}");
        generation = log.generation;
        let there = log.subsystems().contains(&nqn("guest"));
        assert_eq!(there, line[1] == "create", "{:?}", log.subsystems());
    }
}

#[test]
fn a_deleted_volume_says_so_to_its_hosts() {
    let server = Server::start(Setup::simple("512MiB", "demo", "64MiB"));
    let _ = server.cli_json(&["volume", "create", "guest", "--size", "32MiB"]);
    let (mut controller, mut queue) = server.connect("guest");
    let notices = async_event::NAMESPACE_ATTRIBUTE;
    controller
        .set_feature(FeatureId::ASYNC_EVENT_CONFIG, notices)
        .expect("event configuration");
    let request = controller
        .request_event()
        .expect("Asynchronous Event Request");
    let _ = server.cli_json(&["volume", "delete", "guest", "--yes"]);
    // Either the event and a namespace that is gone, or an end of the association.
    match controller.wait_event(request, Duration::from_secs(5)) {
        Ok(Some(event)) => {
            assert_eq!(event, AsyncEvent::NAMESPACE_CHANGED);
            let log = controller
                .get_log(LogId::CHANGED_NAMESPACES, 0, 0, 4096)
                .expect("the log");
            assert_eq!(
                log[..4],
                [1, 0, 0, 0],
                "the namespace is in the changed list"
            );
            let refused = queue.read(0, 1).expect_err("the namespace is gone");
            assert_eq!(refused.status(), Some(Status::INVALID_NAMESPACE));
        }
        Ok(None) => panic!("neither an event nor an end within 5 s"),
        Err(HostError::Command { .. }) => {}
        Err(error) => assert!(error.is_disconnect(), "{error}"),
    }
}

#[test]
fn everything_that_is_listed_is_json_too() {
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = server.connect("demo");
    queue
        .write(0, &Random::new(1).bytes(8192), false)
        .expect("Write");
    let status = server.cli_json(&["status"]);
    assert_eq!(status["pid"], server.process().pid);
    assert_eq!(status["volumes"][0]["name"], "demo");
    let core = &status["cores"][0];
    assert_eq!(core["connections"], 2, "admin queue and I/O queue: {core}");
    let busy = core["busy_fraction"].as_f64().expect("a share");
    assert!((0.0..=1.0).contains(&busy), "{core}");
    assert!(core["busy_us"].as_u64() > Some(0), "{core}");
    assert!(
        status["pools"][0]["device"]["written_bytes"].as_u64() > Some(8192),
        "{status}"
    );
    assert_eq!(
        status["listeners"][0]["address"],
        server.address().to_string()
    );
    assert_eq!(
        server.cli_json(&["volume", "list"])[0]["size_bytes"],
        64 << 20
    );
    assert_eq!(
        server.cli_json(&["volume", "show", "demo"])["nqn"],
        nqn("demo")
    );
    let info = server.cli_json(&["connect-info", "demo"]);
    let commands = info["commands"].to_string();
    let port = server.address().port();
    assert!(
        commands.contains(&format!("nvme connect -t tcp -a 127.0.0.1 -s {port}")),
        "{info}"
    );
    let text = server.cli(&["status"]).expect_code(0);
    for word in ["demo", "main", "write", "BUSY", "CONNECTIONS"] {
        assert!(text.stdout.contains(word), "no '{word}' in:\n{text}");
    }
    let _ = server.cli_json(&["doctor"]);
    server.terminate();
    let pool = server.cli_json(&["pool", "show", "main.pool"]);
    assert_eq!(pool["name"], "main", "{pool}");
    let _ = server.cli_json(&["fsck", "main.pool"]);
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            server
                .cli(&["completions", shell])
                .expect_code(0)
                .stdout
                .contains("bedplate")
        );
    }
}

#[test]
fn fsck_says_clean_damaged_or_could_not_run() {
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    assert_eq!(fsck(&server).code, Some(2), "the pool is in use");
    let (controller, mut queue) = server.connect("demo");
    let data = Random::new(77).bytes(MIB);
    queue.write(0, &data, false).expect("Write");
    queue
        .write(4096, &Random::new(78).bytes(MIB), false)
        .expect("Write");
    drop((controller, queue));
    server.terminate();
    fsck(&server).expect_code(0);
    let path = server.setup.pool_path("main");
    // Wherever the block lies, journal copies included: what hosts read must be among them.
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(offset) = find(&path, &data[8192..8192 + 64], from) {
        flip_bit(&path, offset + 8);
        places.push(offset);
        from = offset + 64;
    }
    assert!(!places.is_empty(), "the data is nowhere in the pool");
    let damaged = fsck(&server).expect_code(1);
    let findings: Vec<&str> = damaged
        .stdout
        .lines()
        .filter(|l| l.contains("demo"))
        .collect();
    assert_eq!(
        findings.len(),
        1,
        "one line that names the volume\n{damaged}"
    );

    server.launch();
    let (_controller, mut queue) = server.connect("demo");
    let refused = queue.read(2, 1).expect_err("the block is damaged");
    assert_eq!(
        refused.status(),
        Some(Status::UNRECOVERED_READ_ERROR),
        "{refused}"
    );
    assert!(
        queue.read(0, 2).expect("Read") == data[..8192],
        "other blocks are fine"
    );
    assert!(
        queue.read(3, 253).expect("Read") == data[3 * 4096..],
        "other blocks are fine"
    );
    let volume = server.cli_json(&["volume", "show", "demo"]);
    assert!(
        volume["counters"]["corrupt_reads"].as_u64() >= Some(1),
        "{volume}"
    );
    queue.write(2, &data[8192..12288], true).expect("Write");
    assert!(
        queue.read(2, 1).expect("Read") == data[8192..12288],
        "a new write heals it"
    );
}

/// Writes 1 MiB pieces from LBA 0 on until one fails; gives how many succeeded.
fn fill(queue: &mut IoQueue, pieces: u64) -> (u64, HostError) {
    for piece in 0..pieces {
        let data = Random::new(piece).bytes(MIB);
        if let Err(error) = queue.write(piece * 256, &data, false) {
            return (piece, error);
        }
    }
    panic!("{pieces} MiB fit into the pool");
}

#[test]
fn a_full_pool_refuses_writes_keeps_data_and_takes_space_back() {
    let mut server = Server::start(Setup::simple("128MiB", "demo", "512MiB"));
    let (controller, mut queue) = server.connect("demo");
    let (written, error) = fill(&mut queue, 512);
    println!("{written} MiB until the pool was full");
    assert_eq!(error.status(), Some(Status::CAPACITY_EXCEEDED), "{error}");
    assert!(
        written > 50,
        "only {written} MiB fit into 128 MiB with a journal of 16 MiB"
    );
    check_pieces(&mut queue, written);
    // What is mapped can still be changed, and reads of what never was are zeroes.
    queue
        .write(0, &Random::new(0).bytes(4096), true)
        .expect("overwriting needs no space");
    drop((controller, queue));
    server.terminate();
    fsck(&server).expect_code(0);
    server.launch();

    let (_controller, mut queue) = server.connect("demo");
    check_pieces(&mut queue, written);
    let half = written / 2;
    for piece in half..written {
        queue
            .deallocate(&[(piece * 256, 256)])
            .expect("Dataset Management");
    }
    // Space comes back with the next checkpoint, at the latest some seconds later.
    let deadline = Instant::now() + Duration::from_secs(15);
    for piece in half..written - 1 {
        let data = Random::new(piece).bytes(MIB);
        while let Err(error) = queue.write(100_000 + piece * 256, &data, false) {
            assert_eq!(error.status(), Some(Status::CAPACITY_EXCEEDED), "{error}");
            assert!(
                Instant::now() < deadline,
                "piece {piece}: freed space does not come back"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    check_pieces(&mut queue, half);
    server.terminate();
    fsck(&server).expect_code(0);
}

fn check_pieces(queue: &mut IoQueue, pieces: u64) {
    for piece in 0..pieces {
        let found = queue.read(piece * 256, 256).expect("Read");
        assert!(
            found == Random::new(piece).bytes(MIB),
            "piece {piece}: other data"
        );
    }
}

#[test]
fn the_quickstart_configuration_runs() {
    let mut setup = Setup::new();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../config/examples/quickstart.toml"
    );
    let text = std::fs::read_to_string(path).expect("the quickstart configuration");
    // The port may be in use by an appliance that somebody runs on this machine.
    let own = text.replace("127.0.0.1:4420", &setup.address.to_string());
    assert_ne!(own, text, "the quickstart listens on 127.0.0.1:4420");
    std::fs::create_dir(setup.directory().join("var")).expect("a folder");
    setup.text = Some(own);
    let mut server = Server::start(setup);
    let data = Random::new(6).bytes(MIB);
    let (controller, mut queue) = server.connect("demo");
    assert_eq!(
        controller.identity().expect("identity").mn.as_str(),
        "Bedplate Volume"
    );
    queue.write(0, &data, false).expect("Write");
    drop((controller, queue));
    let log = server.log().join("\n");
    let port = server.address().port();
    for line in [
        format!("nvme discover -t tcp -a 127.0.0.1 -s {port}"),
        format!(
            "nvme connect -t tcp -a 127.0.0.1 -s {port} -n {}",
            nqn("demo")
        ),
    ] {
        assert!(log.contains(&line), "no '{line}' in:\n{log}");
    }
    assert_eq!(server.stop(Signal::SIGINT), Some(0));
    server.launch();
    let (_controller, mut queue) = server.connect("demo");
    assert!(
        queue.read(0, 256).expect("Read") == data,
        "running it again finds the data"
    );
}

#[test]
fn hosts_that_are_not_listed_are_refused() {
    let mut setup = Setup::simple("256MiB", "demo", "64MiB");
    let listed = HostOptions::default().named("listed");
    let allow = format!(
        "block_size = 4096\nallow_hosts = [\"{}\"]\n",
        listed.hostnqn
    );
    setup.text = Some(setup.config().replace("block_size = 4096\n", &allow));
    let server = Server::start(setup);
    Host::connect(server.address(), &nqn("demo"), listed.clone()).expect("the listed host");
    let other = HostOptions::default().named("other");
    let refused = Host::connect(server.address(), &nqn("demo"), other.clone());
    let status = refused.expect_err("another host").status();
    assert_eq!(status, Some(Status::CONNECT_INVALID_HOST));
    for (options, visible) in [(listed, true), (other, false)] {
        let mut discovery = Host::discover(server.address(), options).expect("discovery");
        let names = discovery.discovery_log().expect("the log").subsystems();
        assert_eq!(names.contains(&nqn("demo")), visible, "{names:?}");
    }
}

#[test]
fn metrics_are_prometheus_text() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = server.connect("demo");
    queue
        .write(0, &Random::new(1).bytes(8192), false)
        .expect("Write");
    let answer = server.metrics();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for word in ["volume=\"demo\"", "# TYPE", "_bucket{", "journal"] {
        assert!(answer.contains(word), "no {word} in:\n{answer}");
    }
    assert_eq!(server.metric("bedplate_core_connections{core=\"0\"}"), 2.0);
    for grows in [
        "bedplate_core_busy_seconds_total{core=\"0\"}",
        "bedplate_core_idle_seconds_total{core=\"0\"}",
        "bedplate_device_written_bytes_total{pool=\"main\"}",
        "bedplate_device_flushes_total{pool=\"main\"}",
    ] {
        assert!(server.metric(grows) > 0.0, "{grows} in:\n{answer}");
    }
}
