//! No text makes the reader panic, and what it accepts obeys the rules.

use config::{Config, ConfigError, limits};
use proptest::prelude::*;

/// Pieces that the grammar and the rules are made of, so that random text gets far.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "[reactor]",
            "[[pool]]",
            "[[volume]]",
            "[nvme_tcp]",
            "[control]",
            "[metrics]",
            "[log]",
            "[pool]",
            "[volume.x]",
            "cores",
            "spin",
            "memory",
            "name",
            "path",
            "size",
            "journal",
            "map_cache",
            "pool",
            "block_size",
            "allow_hosts",
            "listen",
            "max_queues",
            "level",
            "queue_depth",
            "max_io",
            "in_capsule",
            "max_connections",
            "placement",
            "socket",
            "mode",
            "format",
            "\n",
            "\n",
            "\n",
            " = ",
            " = ",
            " = ",
            "[",
            "]",
            "{",
            "}",
            ",",
            ".",
            "\"",
            "'",
            "0",
            "-1",
            "18446744073709551616",
            "1e400",
            "nan",
            "true",
            "1979-05-27",
            "\"main\"",
            "\"1GiB\"",
            "\"50us\"",
            "\"always\"",
            "\"127.0.0.1:4420\"",
            "\"[::]:1\"",
            "#",
            "\r",
            "\u{0}",
            "ä",
            "\u{1F600}",
            "\"\"\"",
            "\\u0000",
            "\"nqn.2026-11.a:b\"",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ]
}

/// One assignment with a value of some kind.
fn assignment() -> impl Strategy<Value = String> {
    let key = prop::sample::select(config::KEYS.to_vec());
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("TOML floats", |f| f.is_finite())
            .prop_map(|f| format!("{f:?}")),
        "'[^'\n\\p{C}]{0,12}'",
        (
            any::<u64>(),
            prop::sample::select(vec!["", "KiB", "MiB", "GiB", "TiB", "us", "s"])
        )
            .prop_map(|(n, unit)| format!("'{}{unit}'", n % 5000)),
        "\\[('[a-z0-9.:]{0,9}', ){0,3}\\]",
        "\\[([0-9]{1,4}, ){0,3}\\]",
    ];
    (key, value).prop_map(|(key, value)| {
        let header = match key.table {
            "pool" | "volume" => format!("[[{}]]", key.table),
            table => format!("[{table}]"),
        };
        format!("{header}\n{} = {value}\n", key.name)
    })
}

fn judge(text: &str) -> Result<(), TestCaseError> {
    match Config::parse(text, "c.toml") {
        Ok(config) => {
            prop_assert!(!config.pools.is_empty());
            for volume in &config.volumes {
                prop_assert!(config.pools.iter().any(|pool| pool.name == volume.pool));
                prop_assert!(volume.size.is_multiple_of(limits::VOLUME_SIZE_UNIT));
            }
            let written = toml::to_string(&config).unwrap();
            prop_assert_eq!(Config::parse(&written, "written").unwrap(), config);
        }
        Err(ConfigError::Refused(finding)) => {
            prop_assert!(finding.line >= 1 && finding.line <= text.lines().count() + 1);
            prop_assert!(finding.column >= 1);
            prop_assert!(!finding.remedy.is_empty());
            let shown = finding.to_string();
            prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
        }
        Err(other) => return Err(TestCaseError::fail(other.to_string())),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_text(text in "(?s).{0,200}") {
        judge(&text)?;
    }

    #[test]
    fn arbitrary_pieces(pieces in prop::collection::vec(piece(), 0..60)) {
        judge(&pieces.concat())?;
    }

    #[test]
    fn arbitrary_values(assignment in assignment()) {
        judge(&assignment)?;
        judge(&format!("{assignment}[[pool]]\nname = 'main'\npath = 'p'\n"))?;
        judge(&format!("[[pool]]\nname = 'main'\npath = 'p'\n{assignment}"))?;
    }

    #[test]
    fn a_good_file_with_a_few_bytes_changed(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "\\PC?"), 1..5),
    ) {
        let mut text: Vec<char> = include_str!("../examples/appliance.toml").chars().collect();
        for (at, edit) in edits {
            let at = at.index(text.len());
            text.splice(at..at + 1, edit.chars());
        }
        judge(&text.iter().collect::<String>())?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn deep_nesting_is_refused(depth in 1usize..100_000) {
        judge(&format!("cores = {}", "[".repeat(depth)))?;
        judge(&format!("[reactor]\ncores = {}{}", "[".repeat(depth), "]".repeat(depth)))?;
        judge(&format!("a{} = 1", ".a".repeat(depth)))?;
    }
}
