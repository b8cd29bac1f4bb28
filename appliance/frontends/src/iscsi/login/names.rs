//! Names of initiators and targets.
//!
//! Source: RFC 7143 section 4.2.7 (iSCSI names), RFC 3722 (they are compared in lower case).

use wire::iscsi::text::{Pair, Pairs};
use wire::iscsi::{LoginRequest, LoginStatus};

use super::types::Named;

/// What the first request says about itself.
pub(super) const NAMES: [&str; 4] = [
    "InitiatorName",
    "TargetName",
    "SessionType",
    "InitiatorAlias",
];

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

/// Reads from the text of the first request who asks for what.
///
/// Errors: the status to refuse the login with.
pub(super) fn who(request: &LoginRequest, text: &[u8]) -> Result<Named, LoginStatus> {
    let mut found: [Option<&str>; NAMES.len()] = Default::default();
    for pair in Pairs::new(text) {
        let pair = pair.map_err(|_| LoginStatus::INITIATOR_ERROR)?;
        let index = NAMES.iter().position(|name| *name == pair.key);
        let place = index.and_then(|index| found.get_mut(index));
        if place.is_some_and(|place| place.replace(pair.value).is_some()) {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
    }
    let [initiator, target, session_type, alias] = found;
    let name = |value: &str| normalize(value).ok_or(LoginStatus::INITIATOR_ERROR);
    let initiator = initiator.ok_or(LoginStatus::MISSING_PARAMETER)?;
    let discovery = match session_type {
        None | Some("Normal") => false,
        Some("Discovery") => true,
        Some(_) => return Err(LoginStatus::SESSION_TYPE),
    };
    let target = target.map(name).transpose()?;
    if target.is_none() && !discovery {
        return Err(LoginStatus::MISSING_PARAMETER);
    }
    Ok(Named {
        initiator: name(initiator)?,
        initiator_alias: alias.map(str::to_owned),
        target,
        discovery,
        isid: request.isid,
        tsih: request.tsih.get(),
        cid: request.cid.get(),
    })
}

/// A name that is said again has to be the same.
pub(super) fn is_same(named: &Named, pair: &Pair<'_>) -> Result<(), LoginStatus> {
    let same = match pair.key {
        "InitiatorName" => normalize(pair.value).as_ref() == Some(&named.initiator),
        "TargetName" => normalize(pair.value) == named.target,
        "SessionType" => (pair.value == "Discovery") == named.discovery,
        _ => named.initiator_alias.as_deref() == Some(pair.value),
    };
    if same {
        return Ok(());
    }
    Err(LoginStatus::INITIATOR_ERROR)
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
