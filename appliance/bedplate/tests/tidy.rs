//! Rules about the source itself: which crate may use which, where unsafe code may be, how long a
//! file may get, and that the write path can be read in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crate → the crates of this workspace it may depend on. The arrows of ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("bedplate-reactor", &[]),
    ("bedplate-wire", &[]),
    ("bedplate-config", &[]),
    ("bedplate-block", &["bedplate-reactor"]),
    ("bedplate-net", &["bedplate-reactor"]),
    ("bedplate-rdma", &["bedplate-net", "bedplate-reactor"]),
    ("bedplate-store", &["bedplate-block", "bedplate-reactor"]),
    (
        "bedplate-volume",
        &["bedplate-block", "bedplate-reactor", "bedplate-store"],
    ),
    (
        "bedplate-frontends",
        &[
            "bedplate-net",
            "bedplate-rdma",
            "bedplate-reactor",
            "bedplate-volume",
            "bedplate-wire",
        ],
    ),
    ("bedplate-control", &[]),
    // A load generator speaks the protocol alone and must not know the target from inside; the
    // reactor is for the raw device beside it.
    (
        "bedplate-perf",
        &[
            "bedplate-host",
            "bedplate-rdma",
            "bedplate-reactor",
            "bedplate-wire",
        ],
    ),
];

/// Longest source file, tests included.
const FILE_LINES_MAX: usize = 1000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Every tracked or new Rust file outside the fuzz crate, relative to the root.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let listed = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .current_dir(&root)
        .output()
        .expect("git lists the files of the checkout");
    let names = String::from_utf8(listed.stdout).unwrap();
    let read = |name: &str| {
        fs::read_to_string(root.join(name))
            .ok()
            .map(|s| (name.to_string(), s))
    };
    let files: Vec<_> = names.lines().filter_map(read).collect();
    assert!(
        files.len() > 50,
        "only {} source files found: is this a git checkout?",
        files.len()
    );
    files
}

/// Every package of the workspace, as `cargo metadata` describes it.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            continue;
        };
        seen.insert(name.to_string());
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            let normal = dependency["kind"].is_null();
            let ours = target.starts_with("bedplate-");
            assert!(
                !(normal && ours) || allowed.contains(&target),
                "{name} must not depend on {target}: see ARCHITECTURE.md"
            );
        }
    }
    assert_eq!(
        seen.len(),
        ARROWS.len(),
        "a crate of ARROWS is gone: {seen:?}"
    );
}

#[test]
fn nothing_that_ships_depends_on_a_test_crate() {
    let is_in = |folder: &str, path: &serde_json::Value| {
        Path::new(path.as_str().unwrap()).starts_with(root().join(folder))
    };
    let is_test = |path: &serde_json::Value| is_in("tests", path);
    let packages = packages();
    // The load generator speaks as a host does, with the tests' own host.
    let is_shipped = |path: &serde_json::Value| !is_test(path) && !is_in("perf", path);
    let shipped = packages.iter().filter(|p| is_shipped(&p["manifest_path"]));
    for package in shipped {
        for dependency in package["dependencies"].as_array().unwrap() {
            let is_for_tests = dependency["kind"] == "dev";
            let is_ours = dependency["path"].is_string();
            assert!(
                is_for_tests || !is_ours || !is_test(&dependency["path"]),
                "{} must name {} under [dev-dependencies] alone",
                package["name"],
                dependency["name"]
            );
        }
    }
}

#[test]
fn unsafe_code_is_only_where_the_list_says() {
    let list = fs::read_to_string(root().join("docs/unsafe.md")).unwrap();
    // The attribute may be spread over lines; spelt in two parts, this file does not match itself.
    let attribute = concat!("expect(", "unsafe_code");
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let files: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(_, text)| squeeze(text).contains(attribute))
        .map(|(name, _)| name)
        .collect();
    let listed = listed_files(&list);
    assert_eq!(
        files, listed,
        "left: files with unsafe code, right: docs/unsafe.md"
    );
}

/// The files of the table's rows and of the line about tests.
fn listed_files(list: &str) -> BTreeSet<String> {
    let rows = list
        .lines()
        .filter(|l| l.starts_with("| `") || l.starts_with("Tests: "));
    let first_column = |row: &str| {
        row.trim_start_matches("| ")
            .split('|')
            .next()
            .map(str::to_owned)
    };
    let names = rows.filter_map(first_column).flat_map(|cell| {
        let quoted: Vec<String> = cell
            .split('`')
            .skip(1)
            .step_by(2)
            .map(String::from)
            .collect();
        quoted
    });
    names.collect()
}

#[test]
fn crates_outside_the_reactor_forbid_unsafe() {
    let holds_unsafe = ["reactor/", "drivers/rdma/", "tests/allocations/"];
    for (name, text) in sources() {
        let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
        if is_root && !holds_unsafe.iter().any(|folder| name.starts_with(folder)) {
            assert!(
                text.contains("#![forbid(unsafe_code)]"),
                "{name} must forbid unsafe code"
            );
        }
    }
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (text.lines().count(), name))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, name)| format!("{lines} {name}"))
        .collect();
    assert!(
        long.is_empty(),
        "longer than {FILE_LINES_MAX} lines, split them: {long:#?}"
    );
}

#[test]
fn the_write_path_can_be_read_in_order() {
    let sources = sources();
    for step in 1..=9 {
        let head = format!("//! Write path {step}/9");
        let found = sources.iter().any(|(_, text)| text.starts_with(&head));
        assert!(found, "no file starts with '{head}'");
    }
}
