//! An independent decoder looks at the traffic: no malformed PDU, no bad digest.

use host::{Controller, Host, HostOptions, IoQueue};
use system_tests::capture::{Capture, Dissection, NVME_TCP};
use system_tests::{Random, Server, Setup, nqn};
use wire::nvme::Status;
use wire::nvme::command::Identify;
use wire::nvme::feature::{FeatureId, async_event};
use wire::nvme::identify::{Cns, Csi};
use wire::nvme::log::LogId;

const KIB: usize = 1024;

fn options() -> HostOptions {
    HostOptions::default().with_digests()
}

/// Discovery as nvme-cli does it.
fn discover(server: &Server) {
    let mut discovery = Host::discover(server.address(), options()).expect("discovery");
    let log = discovery.discovery_log().expect("the discovery log");
    for name in ["demo", "small"] {
        assert!(
            log.subsystems().contains(&nqn(name)),
            "{name}: {:?}",
            log.subsystems()
        );
    }
}

fn admin_commands(controller: &mut Controller) {
    controller
        .identify_controller()
        .expect("Identify Controller");
    controller
        .identify_namespace(1)
        .expect("Identify Namespace");
    assert_eq!(controller.active_namespaces().expect("active list"), [1]);
    for (cns, nsid) in [
        (Cns::NAMESPACE_DESCRIPTORS, 1),
        (Cns::CSI_NAMESPACE, 1),
        (Cns::CSI_CONTROLLER, 0),
    ] {
        let answer = controller.identify(cns, nsid, Csi::NVM);
        answer.unwrap_or_else(|error| panic!("{cns:?}: {error}"));
    }
    let own = controller.cntlid();
    let sets = Identify {
        cns: Cns::IO_COMMAND_SETS,
        cntid: own,
        ..Identify::default()
    };
    let sets = controller.identify_with(sets, 0).expect("I/O command sets");
    assert_eq!(sets[0], 1, "the NVM command set");
    for (lid, nsid, len) in [
        // One entry alone is not dissected by tshark 4.0: it reads past the end.
        (LogId::ERROR, 0, 256),
        (LogId::SMART, 0xffff_ffff, 512),
        (LogId::FIRMWARE_SLOT, 0, 512),
        (LogId::CHANGED_NAMESPACES, 0, 4096),
        (LogId::COMMANDS_EFFECTS, 0, 4096),
    ] {
        let log = controller.get_log(lid, nsid, 0, len);
        assert_eq!(
            log.unwrap_or_else(|error| panic!("{lid:?}: {error}")).len(),
            len
        );
    }
    controller
        .get_feature(FeatureId::VOLATILE_WRITE_CACHE)
        .expect("write cache");
    let events = async_event::NAMESPACE_ATTRIBUTE;
    controller
        .set_feature(FeatureId::ASYNC_EVENT_CONFIG, events)
        .expect("event configuration");
    controller
        .get_feature_data(FeatureId::HOST_IDENTIFIER, 1, 16)
        .expect("host identifier");
    controller.keep_alive().expect("Keep Alive");
    assert!(!controller.abort(1, 99).expect("Abort"), "nothing to abort");
}

fn io_commands(queue: &mut IoQueue, random: &mut Random) {
    let block = queue.block_bytes();
    // In the capsule, over one R2T, over several H2CData PDUs; read back in one piece.
    for (lba, len) in [
        (0, 4 * KIB),
        (16, 8 * KIB),
        (128, 64 * KIB),
        (4096, 1024 * KIB),
    ] {
        let data = random.bytes(len);
        queue.write(lba, &data, len == 4 * KIB).expect("Write");
        let count = u32::try_from(len / block).expect("a count");
        assert!(
            queue.read(lba, count).expect("Read") == data,
            "LBA {lba}: other data"
        );
        queue.compare(lba, &data).expect("Compare");
        queue.verify(lba, count).expect("Verify");
    }
    let (old, new) = (queue.read(0, 1).expect("Read"), random.bytes(block));
    queue
        .compare_and_write(0, &old, &new)
        .expect("Compare and Write");
    let refused = queue
        .compare_and_write(0, &old, &new)
        .expect_err("the block has changed");
    assert_eq!(refused.status(), Some(Status::COMPARE_FAILURE));
    queue.flush().expect("Flush");
    queue.write_zeroes(128, 8, false).expect("Write Zeroes");
    queue
        .write_zeroes(128, 8, true)
        .expect("Write Zeroes, deallocate");
    queue
        .deallocate(&[(4096, 64), (4500, 8)])
        .expect("Dataset Management");
    assert_eq!(queue.read(4096, 1).expect("Read"), vec![0; block]);
    let refused = queue.read(u64::MAX / 2, 1).expect_err("out of range");
    assert_eq!(refused.status(), Some(Status::LBA_OUT_OF_RANGE));
}

/// Everything that a host does in its life, on one volume.
fn talk(server: &Server, volume: &str, options: HostOptions) {
    let mut controller =
        Host::connect(server.address(), &nqn(volume), options).expect("the host connects");
    admin_commands(&mut controller);
    controller
        .request_event()
        .expect("Asynchronous Event Request");
    let mut random = Random::new(11);
    for mut queue in controller.io_queues(2).expect("I/O queues") {
        io_commands(&mut queue, &mut random);
        queue.disconnect().expect("Disconnect");
    }
    controller.shutdown().expect("shutdown");
}

fn talk_captured(turns: &[(&str, HostOptions)]) -> Dissection {
    let setup = Setup::new().pool("main", "256MiB");
    let setup = setup
        .volume("demo", "64MiB", 4096)
        .volume("small", "64MiB", 512);
    let mut server = Server::start(setup);
    let capture = Capture::start(server.setup.directory(), server.address().port(), NVME_TCP);
    for (volume, options) in turns {
        talk(&server, volume, options.clone());
    }
    discover(&server);
    let dissection = capture.finish();
    server.terminate();
    dissection.keep(server)
}

fn count(values: &[String], wanted: &str) -> usize {
    values
        .iter()
        .filter(|value| value.as_str() == wanted)
        .count()
}

#[test]
fn digests_are_good_and_nothing_is_malformed() {
    let waits = HostOptions {
        in_capsule: false,
        ..options()
    };
    // No padding (HPDA): tshark 4.0 looks for data and its digest right behind the header.
    let flow = HostOptions {
        sq_flow_control: true,
        ..options()
    };
    let turns = [("demo", options()), ("small", waits), ("demo", flow)];
    let dissection = talk_captured(&turns);
    nothing_is_malformed(&dissection);
    for (field, least) in [
        ("nvme-tcp.hdgst.status", 300),
        ("nvme-tcp.ddgst.status", 100),
    ] {
        let values = dissection.values(field);
        let (good, bad) = (count(&values, "1"), count(&values, "0"));
        println!("{field}: {good} good, {bad} bad, {} seen", values.len());
        assert_eq!(
            bad,
            0,
            "{field}: {:#?}",
            dissection.matching(&format!("{field} == 0"))
        );
        assert!(good >= least, "{field}: only {good} were checked");
    }
    every_type_was_seen(&dissection, &["0", "1", "4", "5", "6", "7", "9"]);
}

#[test]
fn without_digests_nothing_is_malformed_either() {
    let plain = HostOptions::default();
    let waits = HostOptions {
        in_capsule: false,
        hpda: 3,
        ..plain.clone()
    };
    let dissection = talk_captured(&[("demo", plain), ("small", waits)]);
    nothing_is_malformed(&dissection);
    every_type_was_seen(&dissection, &["0", "1", "4", "5", "6", "7", "9"]);
}

fn nothing_is_malformed(dissection: &Dissection) {
    let malformed = dissection.matching("_ws.malformed");
    let details = || dissection.details("_ws.malformed");
    assert!(malformed.is_empty(), "{malformed:#?}\n{}", details());
}

fn every_type_was_seen(dissection: &Dissection, kinds: &[&str]) {
    let seen = dissection.values("nvme-tcp.type");
    for kind in kinds {
        assert!(
            count(&seen, kind) > 0,
            "no PDU of type {kind} among {}",
            seen.len()
        );
    }
}
