//! iSCSI in the life of the real binary: volumes that come and go, what is shown, what is refused.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use system_tests::iscsi::initiator::{Initiator, Login};
use system_tests::iscsi::tool::output;
use system_tests::{Binary, Server, Setup, iqn};
use wire::iscsi::flags;

fn discovered(server: &Server) -> String {
    output("iscsi-ls", &[&format!("iscsi://{}", server.setup.iscsi[0])])
}

#[test]
fn volumes_come_and_go_as_targets() {
    let setup = Setup::simple("512MiB", "demo", "64MiB").iscsi(2);
    let portals = setup.iscsi.clone();
    let server = Server::start(setup);
    let created = server.cli_json(&["volume", "create", "more", "--size", "32MiB"]);
    assert_eq!(created["iqn"], iqn("more"));
    let found = discovered(&server);
    for (tag, portal) in (1..).zip(&portals) {
        for volume in ["demo", "more"] {
            let line = format!("Target:{} Portal:{portal},{tag}", iqn(volume));
            assert!(found.contains(&line), "{line}: {found}");
        }
    }
    let lines = server.cli(&["connect-info", "more"]).text();
    let login = format!(
        "iscsiadm -m node -T {} -p {} --login",
        iqn("more"),
        portals[1]
    );
    assert!(lines.contains(&login), "{lines}");

    let mut host = Initiator::login(portals[0], &Login::volume("more")).expect("it is there");
    host.settle().expect("it is ready");
    let shown = server.cli_json(&["volume", "show", "more"]);
    assert_eq!(shown["iscsi_sessions"], 1);
    let counted = server.metric("bedplate_volume_iscsi_sessions{volume=\"more\"}");
    assert!((counted - 1.0).abs() < f64::EPSILON);
    server
        .cli(&["volume", "delete", "more", "--yes"])
        .expect_code(0);
    host.wait_closed().expect("its volume is gone");
    let found = discovered(&server);
    assert!(
        !found.contains(&iqn("more")) && found.contains(&iqn("demo")),
        "{found}"
    );
}

#[test]
fn without_its_table_there_is_no_iscsi() {
    let server = Server::start(Setup::simple("512MiB", "demo", "64MiB"));
    let shown = server.cli_json(&["volume", "show", "demo"]);
    assert!(shown.get("iqn").is_none(), "{shown}");
    assert!(
        !server
            .cli(&["connect-info", "demo"])
            .text()
            .contains("iscsiadm")
    );
    assert!(!server.metrics().contains("bedplate_iscsi_sessions{"));
}

#[test]
fn secrets_that_others_can_read_stop_the_start_and_the_doctor_says_so() {
    let mut setup = Setup::simple("512MiB", "demo", "64MiB").iscsi(1);
    let path = setup.directory().join("secrets.toml");
    let text = "[[initiator]]\nuser = \"web\"\nsecret = \"correct horse\"\n";
    std::fs::write(&path, text).expect("the secrets");
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its mode");
    setup
        .iscsi_lines
        .push("secrets = \"secrets.toml\"".to_owned());
    let directory = setup.directory().to_owned();
    std::fs::write(directory.join(setup.config_name()), setup.config()).expect("written");
    let config = ["--config", setup.config_name()];
    let refused = Binary::find()
        .run(&directory, &["serve", config[0], config[1]])
        .expect_code(1);
    assert!(refused.text().contains("chmod 600"), "{}", refused.text());
    assert!(!setup.pool_path("main").exists(), "nothing was made");
    let doctor = Binary::find()
        .run(&directory, &["doctor", config[0], config[1]])
        .expect_code(1);
    assert!(doctor.text().contains("chmod 600") && !doctor.text().contains("horse"));
}

/// PERSISTENT RESERVE OUT, REGISTER with a new key.
fn register(host: &mut Initiator, key: u64) {
    let mut cdb = [0; 16];
    (cdb[0], cdb[8]) = (0x5f, 24);
    let mut list = [0; 24];
    list[8..16].copy_from_slice(&key.to_be_bytes());
    let itt = host.submit(cdb, flags::WRITE, 24).expect("sent");
    let done = host.finish(itt, &list).expect("an answer");
    assert_eq!(done.status, 0, "registered");
}

#[test]
fn an_operator_clears_what_hosts_left_registered() {
    let server = Server::start(Setup::simple("512MiB", "demo", "64MiB").iscsi(1));
    let login = Login::volume("demo");
    let mut host = Initiator::login(server.setup.iscsi[0], &login).expect("it is there");
    host.settle().expect("it is ready");
    register(&mut host, 17);
    let cleared = server.cli_json(&["volume", "clear-reservations", "demo"]);
    assert_eq!(
        (&cleared["registrants"], &cleared["was_locked"]),
        (&1.into(), &false.into())
    );
    let again = server.cli_json(&["volume", "clear-reservations", "demo"]);
    assert_eq!(again["registrants"], 0);
    let unknown = server.cli(&["volume", "clear-reservations", "nosuch"]);
    assert!(unknown.expect_code(1).text().contains("nosuch"));
}
