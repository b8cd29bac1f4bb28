//! Names of initiators and targets.
//!
//! Source: RFC 7143 section 4.2.7 (iSCSI names), RFC 3722 (they are compared in lower case).

/// Longest name in bytes.
pub const NAME_MAX_BYTES: usize = 223;

/// The form in which a name is compared, or `None` when it cannot be one.
///
/// The prefix is not judged: names are compared, never resolved. A comma or a space would make the
/// names of ports, which have a name inside, ambiguous.
pub(super) fn normalize(name: &str) -> Option<String> {
    let bad = |letter: char| letter.is_control() || letter.is_whitespace() || letter == ',';
    let good = !name.is_empty() && name.len() <= NAME_MAX_BYTES && !name.chars().any(bad);
    good.then(|| name.to_lowercase())
        .filter(|name| name.len() <= NAME_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn names_are_compared_in_lower_case() {
        let longest = "a".repeat(223);
        let table = [
            (
                "iqn.2026-11.io.bedplate:Vol",
                Some("iqn.2026-11.io.bedplate:vol"),
            ),
            ("eui.02004567A425678D", Some("eui.02004567a425678d")),
            (longest.as_str(), Some(longest.as_str())),
            ("", None),
            ("iqn.a b", None),
            ("iqn.a,b", None),
            ("iqn.a\u{7f}", None),
            (&"a".repeat(224), None),
        ];
        for (name, expected) in table {
            assert_eq!(normalize(name).as_deref(), expected, "{name:?}");
        }
    }
}
