//! qemu and the tools of libiscsi on volumes of the real binary.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use system_tests::iscsi::tool::{output, qemu_io, run};
use system_tests::{Random, Server, Setup, iqn};

const MIB: u64 = 1 << 20;
/// Size of the volumes and of the images that fill them.
const SIZE: u64 = 64 * MIB;

/// Block size by volume.
const VOLUMES: [(&str, u32); 2] = [("small", 512), ("large", 4096)];

const USER: &str = "qemu";
/// Secrets without signs that mean something in a URL.
const SECRET: &str = "open-sesame-17";
const TARGET_USER: &str = "bedplate";
const TARGET_SECRET: &str = "sesame-answers-18";

fn setup() -> Setup {
    let mut setup = Setup::new().iscsi(1).pool("main", "512MiB");
    for (name, block_bytes) in VOLUMES {
        setup = setup.volume(name, "64MiB", block_bytes);
    }
    setup
}

fn serve() -> Server {
    Server::start(setup())
}

/// A server that asks for CHAP and can prove itself as well.
fn serve_with_secrets() -> Server {
    let mut setup = setup();
    let path = setup.directory().join("secrets.toml");
    let text = format!(
        "[[initiator]]\nuser = \"{USER}\"\nsecret = \"{SECRET}\"\n\
         [target]\nuser = \"{TARGET_USER}\"\nsecret = \"{TARGET_SECRET}\"\n"
    );
    std::fs::write(&path, text).expect("the secrets");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
    setup
        .iscsi_lines
        .push(format!("secrets = \"{}\"", path.display()));
    Server::start(setup)
}

/// qemu's description of a volume, with more options.
fn image_options(server: &Server, volume: &str, more: &str) -> String {
    let (portal, target) = (server.setup.iscsi[0], iqn(volume));
    format!("driver=iscsi,transport=tcp,portal={portal},target={target},lun=0{more}")
}

/// An image of random data with 8 MiB of zeroes in the middle.
fn image(directory: &Path) -> PathBuf {
    let path = directory.join("image.raw");
    let mut file = std::fs::File::create(&path).expect("the image");
    let mut random = Random::new(7);
    for index in 0..SIZE / MIB {
        let zeroes = (24..32).contains(&index);
        let bytes = if zeroes {
            vec![0; MIB as usize]
        } else {
            random.bytes(MIB as usize)
        };
        file.write_all(&bytes).expect("a piece of the image");
    }
    path
}

fn same_bytes(left: &Path, right: &Path) -> bool {
    std::fs::read(left).expect("an image") == std::fs::read(right).expect("an image")
}

#[test]
fn an_image_comes_back_as_it_went_in() {
    let mut server = serve();
    let directory = server.setup.directory();
    let (raw, back) = (image(directory), directory.join("back.raw"));
    let (raw_name, back_name) = (raw.display().to_string(), back.display().to_string());
    for (volume, _) in VOLUMES {
        let url = server.setup.iscsi_url(volume);
        let copy = |from: &str, to: &str, more: &[&str]| {
            let ends = ["convert", "-f", "raw", "-O", "raw", from, to];
            output("qemu-img", &[&ends, more].concat());
        };
        copy(&raw_name, &url, &["-n", "-t", "none"]);
        output(
            "qemu-img",
            &["compare", "-f", "raw", "-F", "raw", &raw_name, &url],
        );
        copy(&url, &back_name, &["-T", "none"]);
        assert!(same_bytes(&raw, &back), "{volume}: another image came back");
    }
    // With several requests in flight and out of order.
    let (from, to) = (
        server.setup.iscsi_url("small"),
        server.setup.iscsi_url("large"),
    );
    let ends = [
        "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", &from, &to,
    ];
    output("qemu-img", &ends);
    output(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", &raw_name, &to],
    );
    server.terminate();
}

#[test]
fn holes_of_a_volume_are_known_to_the_host() {
    let server = serve();
    for (volume, _) in VOLUMES {
        let url = server.setup.iscsi_url(volume);
        qemu_io(&["-f", "raw", &url], &["write -P 0x5a 8M 4M"]);
        let map = output("qemu-img", &["map", "-f", "raw", "--output=json", &url]);
        let map: serde_json::Value = serde_json::from_str(&map).expect("JSON");
        let data: Vec<_> = map
            .as_array()
            .expect("a list of extents")
            .iter()
            .filter(|extent| extent["data"] == true)
            .map(|extent| (extent["start"].as_u64(), extent["length"].as_u64()))
            .collect();
        assert_eq!(data, [(Some(8 * MIB), Some(4 * MIB))], "{volume}: {map}");
    }
}

/// Writes of every kind; each is read back. Zeroes are read in pieces below 32 KiB, since qemu 7.2
/// fails an assertion of its own in longer ones of what is not allocated when blocks have 4096 bytes.
const COMMANDS: [&str; 17] = [
    "write -P 0xab 0 64k",
    "write -f -P 0xcd 64k 128k",
    "read -P 0xab 0 64k",
    "read -P 0xcd 64k 128k",
    "flush",
    "discard 0 64k",
    "read -P 0 0 16k",
    "read -P 0 48k 16k",
    "write -P 0x33 1M 4M",
    "write -z 1M 1M",
    "write -z -u 2M 1M",
    "read -P 0 2040k 16k",
    "read -P 0x33 3M 2M",
    "aio_write -P 0x44 8M 8M",
    "aio_write -P 0x55 16M 8M",
    "aio_flush",
    "read -P 0x55 16M 8M",
];

#[test]
fn patterns_forced_writes_discards_and_zeroes() {
    let server = serve();
    for (volume, block_bytes) in VOLUMES {
        let url = server.setup.iscsi_url(volume);
        qemu_io(&["-f", "raw", &url], &COMMANDS);
        // Blocks alone, in the middle of a cluster.
        let one = [
            format!("write -P 0x77 {} {block_bytes}", 8 * MIB + 4096),
            "read -P 0x44 8M 4096".to_owned(),
            format!("read -P 0x77 {} {block_bytes}", 8 * MIB + 4096),
            format!("discard {} {block_bytes}", 8 * MIB + 8192),
            format!("read -P 0x44 {} 4096", 8 * MIB + 12288),
        ];
        qemu_io(&["-f", "raw", &url], &one.each_ref().map(String::as_str));
    }
    let url = server.setup.iscsi_url("small");
    qemu_io(
        &["-f", "raw", &url],
        &["read -P 0 1M 2M", "read -P 0 32M 16M"],
    );
}

#[test]
fn a_header_digest_is_checked_on_both_sides() {
    let server = serve();
    for digest in ["crc32c", "crc32c-none", "none-crc32c", "none"] {
        let options = image_options(&server, "large", &format!(",header-digest={digest}"));
        qemu_io(&["--image-opts", &options], &COMMANDS);
    }
}

#[test]
fn chap_lets_in_who_knows_the_secret_and_nobody_else() {
    let server = serve_with_secrets();
    let try_with = |user: &str, secret: &str| {
        let more = format!(",user={user},password-secret=chap");
        let options = image_options(&server, "large", &more);
        let object = format!("secret,id=chap,data={secret}");
        let arguments = [
            "--object",
            &object,
            "-c",
            "read 0 4k",
            "--image-opts",
            &options,
        ];
        run("qemu-io", &arguments)
    };
    try_with(USER, SECRET).expect_code(0);
    let refused = [
        try_with(USER, "not-the-secret"),
        try_with("somebody", SECRET),
        run(
            "qemu-io",
            &[
                "-f",
                "raw",
                "-c",
                "read 0 4k",
                &server.setup.iscsi_url("large"),
            ],
        ),
    ];
    for said in refused {
        assert_eq!(said.code, Some(1), "{said}");
    }
    // Nobody who was refused did any harm.
    try_with(USER, SECRET).expect_code(0);
}

#[test]
fn chap_proves_the_target_as_well() {
    let server = serve_with_secrets();
    let url = |target_secret: &str| {
        let (portal, target) = (server.setup.iscsi[0], iqn("large"));
        format!(
            "iscsi://{USER}%{SECRET}@{portal}/{target}/0\
             ?target_user={TARGET_USER}&target_password={target_secret}"
        )
    };
    let said = run("iscsi-inq", &[&url(TARGET_SECRET)]);
    said.expect_code(0);
    let said = run("iscsi-inq", &[&url("not-the-secret")]);
    assert_ne!(said.code, Some(0), "{said}");
}

#[test]
fn discovery_and_identity() {
    let server = serve();
    let portal = format!("iscsi://{}", server.setup.iscsi[0]);
    let list = output("iscsi-ls", &["-s", &portal]);
    for (volume, _) in VOLUMES {
        let line = format!("Target:{} Portal:{},1", iqn(volume), server.setup.iscsi[0]);
        assert!(list.contains(&line), "{line} in {list}");
    }
    let units = list.matches("Lun:0    Type:DIRECT_ACCESS").count();
    assert_eq!(units, VOLUMES.len(), "{list}");
    for (volume, block_bytes) in VOLUMES {
        let url = server.setup.iscsi_url(volume);
        let capacity = output("iscsi-readcapacity16", &[&url]);
        for line in [
            format!(
                "LOGICAL BLOCK ADDRESS:{}",
                SIZE / u64::from(block_bytes) - 1
            ),
            format!("LOGICAL BLOCK LENGTH IN BYTES:{block_bytes}"),
            "LBPME:1 LBPRZ:1".to_owned(),
            format!("Total size:{SIZE}"),
        ] {
            assert!(capacity.contains(&line), "{line} in {capacity}");
        }
        let inquiry = output("iscsi-inq", &[&url]);
        assert!(
            inquiry.contains("Peripheral Device Type:DIRECT_ACCESS"),
            "{inquiry}"
        );
        for page in ["0x00", "0x80", "0x83", "0xb0", "0xb1", "0xb2"] {
            output("iscsi-inq", &["-e", "1", "-c", &decimal(page), &url]);
        }
    }
}

/// The tool reads page codes as decimal numbers.
fn decimal(page: &str) -> String {
    let digits = page.trim_start_matches("0x");
    u8::from_str_radix(digits, 16).expect("a page").to_string()
}

/// The volume behind both frontends is one.
#[test]
fn what_one_frontend_writes_the_other_reads() {
    let server = serve();
    let (_controller, mut queue) = server.connect("small");
    let url = server.setup.iscsi_url("small");
    let image = ["-f", "raw", url.as_str()];
    queue.write(0, &[0x61; 65536], false).expect("Write");
    qemu_io(&image, &["read -P 0x61 0 64k", "write -P 0x62 32k 64k"]);
    assert_eq!(queue.read(64, 128).expect("Read"), vec![0x62; 65536]);
    assert_eq!(queue.read(0, 64).expect("Read"), vec![0x61; 32768]);
    queue.deallocate(&[(64, 64)]).expect("Dataset Management");
    qemu_io(&image, &["read -P 0 32k 32k", "read -P 0x62 64k 32k"]);
    qemu_io(&image, &["discard 0 96k"]);
    assert_eq!(queue.read(0, 192).expect("Read"), vec![0; 98304]);
}
