//! Every row: hand-laid bytes equal `testdata/<name>.bin`; the encoder gives the same bytes; the
//! decoder's `Debug` equals `testdata/<name>.txt`; decode then encode gives the bytes again.
//!
//! `WIRE_GOLDEN=write cargo test -p bedplate-wire` writes the files of new rows; look at the diff.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{iscsi_rows, nvme_rows, rdma, tcp_rows};

/// What a decoder makes of bytes: its `Debug`, and the bytes that its encoder gives back.
pub struct Decoded {
    pub debug: String,
    pub reencoded: Vec<u8>,
}

/// One registered structure.
pub struct Row {
    pub name: &'static str,
    /// The type it covers, for the completeness check.
    pub covers: &'static str,
    /// Laid out by hand.
    pub bytes: Vec<u8>,
    /// The same meaning through the crate's encoder.
    pub encoded: Vec<u8>,
    pub decode: fn(&[u8]) -> Result<Decoded, wire::Error>,
}

/// A structure set field by field: `offset kind (place) = value;`, offsets from the specification.
#[macro_export]
macro_rules! row {
    (
        $name:literal, $ty:ident,
        { $($off:literal $kind:ident ($($place:tt)+) = $value:expr;)* }
    ) => {{
        let mut spec = $crate::spec_bytes::SpecBytes::new(<$ty>::SIZE);
        let mut value = <$ty>::zeroed();
        $({
            let (bytes, field) = $crate::spec_bytes::$kind($value);
            spec.put($off, &bytes);
            #[allow(clippy::useless_conversion, reason = "the kinds share one form")]
            { value.$($place)+ = field.into(); }
        })*
        $crate::golden::Row {
            name: $name,
            covers: stringify!($ty),
            bytes: spec.0,
            encoded: value.as_wire().to_vec(),
            decode: |bytes| {
                let view = <$ty>::decode(bytes)?;
                Ok($crate::golden::Decoded {
                    debug: format!("{view:#?}"),
                    reencoded: view.as_wire().to_vec(),
                })
            },
        }
    }};
}

/// A meaning: hand-laid bytes, the value, how to decode and how to encode it.
#[macro_export]
macro_rules! meaning {
    (
        $name:literal, $ty:ident, $size:literal,
        { $($off:literal $kind:ident = $field:expr;)* },
        $value:expr, $decode:expr, $encode:expr
    ) => {{
        let mut spec = $crate::spec_bytes::SpecBytes::new($size);
        $( spec.put($off, &$crate::spec_bytes::$kind($field).0); )*
        let encode: fn(&$ty) -> Vec<u8> = $encode;
        $crate::golden::Row {
            name: $name,
            covers: stringify!($ty),
            bytes: spec.0,
            encoded: encode(&$value),
            decode: |bytes| {
                let decode: fn(&[u8]) -> Result<$ty, wire::Error> = $decode;
                let encode: fn(&$ty) -> Vec<u8> = $encode;
                let value = decode(bytes)?;
                Ok($crate::golden::Decoded {
                    debug: format!("{value:#?}"),
                    reencoded: encode(&value),
                })
            },
        }
    }};
}

pub fn rows() -> Vec<Row> {
    let mut rows = nvme_rows::commands();
    rows.extend(nvme_rows::structures());
    rows.extend(nvme_rows::logs());
    rows.extend(nvme_rows::fabrics());
    rows.extend(tcp_rows::rows());
    rows.extend(rdma::rows());
    rows.extend(iscsi_rows::rows());
    rows
}

pub fn testdata(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(format!("{name}.{extension}"))
}

/// Reads a golden file, or writes it when asked to.
fn golden(name: &str, extension: &str, now: &[u8]) -> Vec<u8> {
    let path = testdata(name, extension);
    if std::env::var_os("WIRE_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::write(&path, now).expect("testdata is writable");
    }
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run once with WIRE_GOLDEN=write and review",
            path.display()
        )
    })
}

/// `U32(\n76,\n)`, as the little-endian types print themselves, becomes `76`.
fn plain_numbers(debug: &str) -> String {
    let mut text = String::new();
    let mut lines = debug.lines();
    while let Some(line) = lines.next() {
        let opens = ["U16(", "U32(", "U64(", "U128("]
            .iter()
            .find_map(|end| line.strip_suffix(end));
        match opens {
            Some(head) => {
                text += head;
                text += lines.next().unwrap_or_default().trim();
                lines.next();
            }
            None => text += line,
        }
        text.push('\n');
    }
    text
}

#[test]
fn every_row_matches_its_golden_files() {
    for row in rows() {
        let name = row.name;
        assert_eq!(
            golden(name, "bin", &row.bytes),
            row.bytes,
            "{name}: bytes by hand"
        );
        assert_eq!(row.encoded, row.bytes, "{name}: encoder");
        let decoded = (row.decode)(&row.bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded.reencoded, row.bytes, "{name}: decode then encode");
        let text = plain_numbers(&decoded.debug);
        let golden_text = golden(name, "txt", text.as_bytes());
        assert_eq!(
            String::from_utf8_lossy(&golden_text),
            text,
            "{name}: decoded form"
        );
    }
}

#[test]
fn every_row_refuses_every_truncation() {
    for row in rows() {
        for len in 0..row.bytes.len().min(80) {
            assert!(
                (row.decode)(&row.bytes[..len]).is_err(),
                "{}: {len} bytes decode",
                row.name
            );
        }
        let len = row.bytes.len() - 1;
        assert!(
            (row.decode)(&row.bytes[..len]).is_err(),
            "{}: {len} bytes decode",
            row.name
        );
    }
}

#[test]
fn names_are_unique_and_no_file_is_orphaned() {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len(), "a name is used twice");
    let directory = testdata("x", "bin")
        .parent()
        .expect("testdata")
        .to_path_buf();
    for entry in std::fs::read_dir(directory).expect("testdata exists") {
        let path = entry.expect("readable").path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a UTF-8 name");
        assert!(names.contains(stem), "{} has no row", path.display());
    }
}

/// A structure declared with `wire_struct!` but without a row would go untested.
#[test]
fn every_structure_of_the_crate_has_a_row() {
    let covered: BTreeSet<&str> = rows().iter().map(|row| row.covers).collect();
    let declared = declared_structures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(declared.len() > 30, "the scan found only {declared:?}");
    for name in declared {
        assert!(covered.contains(name.as_str()), "{name} has no golden row");
    }
}

fn declared_structures(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).expect("src exists") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(declared_structures(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("source is UTF-8");
        found.extend(text.lines().filter_map(declared_name).map(str::to_owned));
    }
    found
}

/// `    Name[123] {` opens a structure in a `wire_struct!`.
fn declared_name(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix("    ")?.split_once('[')?;
    let (size, end) = rest.split_once(']')?;
    let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric());
    (is_name && end == " {" && size.parse::<usize>().is_ok()).then_some(name)
}
