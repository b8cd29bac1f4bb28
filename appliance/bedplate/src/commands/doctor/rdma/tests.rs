//! Machines that are made for the test: trees of files below a folder of their own.

use tempfile::TempDir;

use super::*;

const CARD: &str = "sys/class/infiniband/mlx5_0";
const MAPPED: &str = "0000:0000:0000:0000:0000:ffff:0a00:0001";

/// A machine, removed at the end.
struct Fake {
    folder: TempDir,
    memlock_bytes: u64,
    load_libraries: fn() -> Result<(), MissingLibrary>,
}

impl Fake {
    fn empty() -> Fake {
        Fake {
            folder: TempDir::new().expect("a folder"),
            memlock_bytes: RLIM_INFINITY,
            load_libraries: || Err(missing("No such file")),
        }
    }

    /// Everything is there: a card at 10.0.0.1 with large frames.
    fn good() -> Fake {
        let mut fake = Fake::empty();
        fake.load_libraries = || Ok(());
        fake.with("etc/libibverbs.d/mlx5.driver", "driver mlx5\n")
            .with("dev/infiniband/rdma_cm", "")
            .with("dev/infiniband/uverbs0", "")
            .with(&format!("{CARD}/device/vendor"), "0x15b3\n")
            .port("state", "4: ACTIVE\n")
            .port("link_layer", "Ethernet\n")
            .gid(0, "fe80:0000:0000:0000:0202:c9ff:fe00:0001", "RoCE v2")
            .gid(1, MAPPED, "IB/RoCE v1")
            .gid(2, MAPPED, "RoCE v2")
            .port("gids/3", "0000:0000:0000:0000:0000:0000:0000:0000\n")
            .with("sys/class/net/eth0/mtu", "9000\n");
        fake
    }

    fn with(&self, path: &str, text: &str) -> &Fake {
        let file = self.folder.path().join(path);
        fs::create_dir_all(file.parent().expect("a folder")).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    fn port(&self, file: &str, text: &str) -> &Fake {
        self.with(&format!("{CARD}/ports/1/{file}"), text)
    }

    fn gid(&self, index: u32, address: &str, kind: &str) -> &Fake {
        self.port(&format!("gids/{index}"), &format!("{address}\n"))
            .port(&format!("gid_attrs/types/{index}"), &format!("{kind}\n"))
            .port(&format!("gid_attrs/ndevs/{index}"), "eth0\n")
    }

    fn without(&self, path: &str) -> &Fake {
        let path = self.folder.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        self
    }

    fn machine(&self) -> Machine {
        Machine {
            root: self.folder.path().to_owned(),
            memlock_bytes: self.memlock_bytes,
            load_libraries: self.load_libraries,
        }
    }

    /// The report for a configuration with these keys, of two cores with 32 MiB each.
    fn report(&self, keys: &str) -> Vec<Check> {
        let text = format!(
            "[[pool]]\nname='p'\npath='p'\n[reactor]\nmemory='32MiB'\n[nvme_rdma]\n{keys}\n"
        );
        let config = Config::parse(&text, "t").unwrap_or_else(|error| panic!("{error}"));
        let rdma = config.nvme_rdma.as_ref().expect("it is there");
        configured(&self.machine(), rdma, &config, 2)
    }

    fn report_default(&self) -> Vec<Check> {
        self.report("listen = ['10.0.0.1:4420']")
    }
}

fn missing(reason: &str) -> MissingLibrary {
    MissingLibrary {
        library: "librdmacm.so.1",
        reason: reason.to_owned(),
    }
}

fn names(checks: &[Check], verdict: Verdict) -> Vec<&str> {
    let found = checks.iter().filter(|check| check.verdict == verdict);
    found.map(|check| check.check.as_str()).collect()
}

/// The one check of this name.
fn detail<'c>(checks: &'c [Check], name: &str) -> &'c str {
    let found: Vec<&Check> = checks.iter().filter(|check| check.check == name).collect();
    assert_eq!(found.len(), 1, "{name} in {checks:#?}");
    &found[0].detail
}

/// Exactly this check is a problem, and says so.
fn is_problem(checks: &[Check], name: &str, part: &str) {
    assert_eq!(names(checks, Verdict::Problem), [name], "{checks:#?}");
    let text = detail(checks, name);
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_machine_without_rdma_says_so_in_one_line_and_nothing_is_wrong() {
    let check = unused(&Fake::empty().machine());
    assert_eq!(check.verdict, Verdict::Ok);
    assert!(check.detail.contains("no RDMA card"), "{check:?}");
    let check = unused(&Fake::good().machine());
    assert_eq!(check.verdict, Verdict::Ok);
    assert!(check.detail.starts_with("mlx5_0/1: used when"), "{check:?}");
}

#[test]
fn a_good_machine_has_nothing_to_note() {
    let checks = Fake::good().report_default();
    assert!(names(&checks, Verdict::Problem).is_empty(), "{checks:#?}");
    assert!(names(&checks, Verdict::Note).is_empty(), "{checks:#?}");
    let listen = detail(&checks, "rdma listen 10.0.0.1:4420");
    assert_eq!(listen, "RoCE v2 on mlx5_0/1");
    let mtu = detail(&checks, "rdma mlx5_0/1 MTU");
    assert_eq!(mtu, "4096-byte packets (eth0 has 9000)");
    let losses = detail(&checks, "rdma mlx5_0/1 losses");
    assert!(losses.contains("dcb pfc show dev eth0"), "{losses}");
}

#[test]
fn a_bare_machine_lacks_each_part_by_name() {
    let checks = Fake::empty().report_default();
    let missing = [
        "rdma libraries",
        "rdma connection manager",
        "rdma verbs",
        "rdma cards",
    ];
    assert_eq!(names(&checks, Verdict::Problem), missing, "{checks:#?}");
    assert_eq!(checks.len(), missing.len());
    let parts = ["librdmacm1", "rdma_ucm", "ib_uverbs", "mlx5_ib"];
    for (name, part) in missing.iter().zip(parts) {
        assert!(detail(&checks, name).contains(part), "{checks:#?}");
    }
}

#[test]
fn a_library_that_cannot_be_loaded_is_told_with_what_the_loader_says() {
    let mut fake = Fake::good();
    fake.load_libraries = || Err(missing("libnl-3.so.200: cannot open shared object file"));
    let checks = fake.report_default();
    is_problem(&checks, "rdma libraries", "librdmacm.so.1 cannot be loaded");
    let text = detail(&checks, "rdma libraries");
    assert!(text.contains("(libnl-3.so.200: cannot open"), "{text}");
    assert!(text.contains("apt install librdmacm1"), "{text}");
}

#[test]
fn each_missing_part_is_the_only_problem() {
    let parts = [
        (
            "dev/infiniband/rdma_cm",
            "rdma connection manager",
            "modprobe",
        ),
        ("dev/infiniband/uverbs0", "rdma verbs", "modprobe ib_uverbs"),
        ("etc/libibverbs.d", "rdma providers", "ibverbs-providers"),
        (CARD, "rdma cards", "rxe"),
    ];
    for (path, name, part) in parts {
        let fake = Fake::good();
        is_problem(&fake.without(path).report_default(), name, part);
    }
}

#[test]
fn a_port_that_is_down_is_a_problem() {
    let fake = Fake::good();
    fake.port("state", "1: DOWN\n");
    is_problem(&fake.report_default(), "rdma mlx5_0/1 link", "DOWN");
}

#[test]
fn an_address_no_card_has_is_told_with_those_there_are() {
    let fake = Fake::good();
    let checks = fake.report("listen = ['10.0.0.9:4420']");
    is_problem(&checks, "rdma listen 10.0.0.9:4420", "they have 10.0.0.1");
    fake.without(&format!("{CARD}/ports/1/gids"));
    let name = "rdma listen 10.0.0.1:4420";
    is_problem(
        &fake.report_default(),
        name,
        "no RDMA card has an IP address",
    );
}

#[test]
fn an_address_only_in_roce_v1_is_told_as_that() {
    let fake = Fake::good();
    fake.gid(2, MAPPED, "IB/RoCE v1");
    let name = "rdma listen 10.0.0.1:4420";
    is_problem(&fake.report_default(), name, "only as IB/RoCE v1");
}

#[test]
fn a_wildcard_needs_an_address_of_its_family_on_some_card() {
    let fake = Fake::good();
    let v4 = fake.report("listen = ['0.0.0.0:4420']");
    assert!(names(&v4, Verdict::Problem).is_empty(), "{v4:#?}");
    fake.gid(1, "2001:0db8:0000:0000:0000:0000:0000:0001", "RoCE v2")
        .gid(2, MAPPED, "IB/RoCE v1");
    let v4 = fake.report("listen = ['0.0.0.0:4420']");
    is_problem(&v4, "rdma listen 0.0.0.0:4420", "of this family");
    let v6 = fake.report("listen = ['[::]:4420', '[2001:db8::1]:4421']");
    assert!(names(&v6, Verdict::Problem).is_empty(), "{v6:#?}");
}

#[test]
fn small_frames_software_cards_and_losses_are_noted() {
    let fake = Fake::good();
    fake.with("sys/class/net/eth0/mtu", "1500\n")
        .with(&format!("{CARD}/parent"), "eth0\n")
        .port("hw_counters/out_of_sequence", "7\n")
        .port("hw_counters/packet_seq_err", "2\n")
        .port("hw_counters/np_cnp_sent", "1\n")
        .port("hw_counters/rx_write_requests", "100\n");
    let checks = fake.report("listen = ['10.0.0.1:4420']\nin_capsule = '8KiB'");
    assert!(names(&checks, Verdict::Problem).is_empty(), "{checks:#?}");
    let noted = [
        "rdma mlx5_0/1 MTU",
        "rdma mlx5_0/1 kind",
        "rdma mlx5_0/1 losses",
        "[nvme_rdma] in_capsule",
    ];
    assert_eq!(names(&checks, Verdict::Note), noted, "{checks:#?}");
    assert!(detail(&checks, noted[0]).starts_with("1024-byte packets"));
    assert!(detail(&checks, noted[1]).contains("for tests"));
    let losses = detail(&checks, noted[2]);
    assert!(
        losses.starts_with("9 packets lost") && losses.contains("ECN"),
        "{losses}"
    );
    assert!(detail(&checks, noted[3]).contains("5.4 to 5.12"));
}

#[test]
fn a_card_without_a_device_of_a_bus_is_made_of_software() {
    let fake = Fake::good();
    fake.without(&format!("{CARD}/device"));
    assert_eq!(
        names(&fake.report_default(), Verdict::Note),
        ["rdma mlx5_0/1 kind"]
    );
}

#[test]
fn locked_memory_is_that_of_all_cores_unless_there_is_no_limit() {
    let mut fake = Fake::good();
    fake.memlock_bytes = (64 << 20) - 1;
    let name = "rdma locked memory";
    is_problem(&fake.report_default(), name, "LimitMEMLOCK=infinity");
    fake.memlock_bytes += 1;
    assert!(names(&fake.report_default(), Verdict::Problem).is_empty());
    fake.memlock_bytes = 8 << 20;
    fake.with("proc/self/status", "Name:\tx\nCapEff:\t0000000000004000\n");
    let checks = fake.report_default();
    assert!(
        detail(&checks, name).starts_with("unlimited, 64MiB"),
        "{checks:#?}"
    );
    fake.with("proc/self/status", "CapEff:\tffffffffffffbfff\n");
    is_problem(&fake.report_default(), name, "limit 8MiB");
}

#[test]
fn memory_is_locked_once_for_each_card() {
    let mut fake = Fake::good();
    fake.memlock_bytes = 64 << 20;
    let second = "sys/class/infiniband/mlx5_1/ports/1";
    fake.with(
        &format!("{second}/gids/0"),
        &MAPPED.replace("0a00:0001", "0a00:0002"),
    )
    .with(&format!("{second}/gid_attrs/types/0"), "RoCE v2\n")
    .with(&format!("{second}/state"), "4: ACTIVE\n")
    .with(&format!("{second}/link_layer"), "Ethernet\n");
    let one = fake.report_default();
    assert!(names(&one, Verdict::Problem).is_empty(), "{one:#?}");
    let both = fake.report("listen = ['10.0.0.1:4420', '10.0.0.2:4420']");
    is_problem(&both, "rdma locked memory", "128MiB needed");
}

#[test]
fn other_link_layers_and_loopback_are_noted() {
    let fake = Fake::good();
    fake.port("link_layer", "InfiniBand\n");
    let checks = fake.report("listen = ['127.0.0.1:4420']");
    let noted = ["rdma listen 127.0.0.1:4420", "rdma mlx5_0/1 link"];
    assert_eq!(names(&checks, Verdict::Note), noted, "{checks:#?}");
    assert!(names(&checks, Verdict::Problem).is_empty(), "{checks:#?}");
}

#[test]
fn strange_files_are_no_reason_to_stop() {
    let fake = Fake::good();
    fake.port("state", "")
        .port("gids/x", "not an address\n")
        .port("hw_counters/out_of_sequence", "-1\n")
        .with("sys/class/net/eth0/mtu", "many\n")
        .with("proc/self/status", "CapEff: g\n");
    let checks = fake.report_default();
    is_problem(&checks, "rdma mlx5_0/1 link", "unknown");
    assert!(!checks.iter().any(|check| check.check.ends_with("MTU")));
}
