//! Values with a grammar of their own: names, paths, addresses, words out of a list.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::error::{ConfigError, Problem};
use crate::limits;
use crate::name::{InvalidName, Name};
use crate::reader::{Entry, SizeRule, Table, clip};
use crate::size::ByteSize;
use crate::suggest::nearest;

type Result<T> = std::result::Result<T, ConfigError>;

// Which sizes below the powers of two are wrong is for `max_io` to say.
const MAX_IO: SizeRule = SizeRule {
    least: limits::MAX_IO_MIN,
    most: limits::MAX_IO_MAX,
    unit: ByteSize::from_bytes(1),
};

/// MDTS is an exponent, so only powers of two can be told to hosts.
pub(crate) fn max_io(entry: &Entry<'_>) -> Result<ByteSize> {
    let size = entry.size(&MAX_IO)?;
    if size.bytes().is_power_of_two() {
        return Ok(size);
    }
    // No overflow: at most the largest setting, itself a power of two.
    let next = ByteSize::from_bytes(size.bytes().next_power_of_two());
    let problem = Problem::NotPowerOfTwo {
        found: size.to_string(),
    };
    Err(entry.refuse(problem, format!("write \"{next}\"")))
}

pub(crate) fn one_of<T: Copy>(
    entry: &Entry<'_>,
    expected: &'static str,
    words: &[(&str, T)],
) -> Result<T> {
    let names = || words.iter().map(|(name, _)| *name);
    let all = names()
        .map(|name| format!("\"{name}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let text = entry.text(&format!("one of {all}"))?;
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let remedy = match nearest(text, names()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("write one of {all}"),
    };
    Err(entry.refuse(
        Problem::NotA {
            expected,
            found: clip(text),
        },
        remedy,
    ))
}

pub(crate) fn size_or(
    table: &Table<'_>,
    key: &'static str,
    rule: &SizeRule,
    default: ByteSize,
) -> Result<ByteSize> {
    table.get(key).map_or(Ok(default), |entry| entry.size(rule))
}

pub(crate) fn name(entry: &Entry<'_>) -> Result<Name> {
    entry.parsed(
        "a name",
        "a name in quotes, for example \"main\"",
        |error: InvalidName| {
            let rule = "use 1 to 64 of a-z 0-9 . _ - and start with a letter or a digit";
            match error.meant {
                Some(meant) => format!("{rule}, for example \"{}\"", clip(&meant)),
                None => rule.to_owned(),
            }
        },
    )
}

pub(crate) fn path(entry: &Entry<'_>, example: &str, bytes_max: usize) -> Result<PathBuf> {
    let text = entry.text(example)?;
    if text.is_empty() || text.contains('\0') {
        let problem = Problem::NotA {
            expected: "a path",
            found: clip(text),
        };
        return Err(entry.refuse(problem, format!("write a path, for example {example}")));
    }
    if text.len() > bytes_max {
        let most = format!("{bytes_max} bytes");
        let problem = Problem::TooLarge {
            found: format!("{} bytes", text.len()),
            most,
        };
        return Err(entry.refuse(problem, format!("use a path of {bytes_max} bytes or less")));
    }
    Ok(PathBuf::from(text))
}

pub(crate) fn address(entry: &Entry<'_>) -> Result<SocketAddr> {
    const EXAMPLE: &str = "an IP address and a port, for example \"127.0.0.1:4420\"";
    let refuse = |text: &str, remedy: String| {
        let problem = Problem::NotA {
            expected: "an address to listen on",
            found: clip(text),
        };
        entry.refuse(problem, remedy)
    };
    let text = entry.text(EXAMPLE)?;
    match text.parse::<SocketAddr>() {
        Err(_) => Err(refuse(text, meant_address(text, EXAMPLE))),
        Ok(address) if address.port() == 0 => {
            let remedy = "write a fixed port, so that hosts find it again after a restart";
            Err(refuse(text, remedy.to_owned()))
        }
        Ok(address) if address.ip().is_multicast() => {
            Err(refuse(text, "write an address of this machine".to_owned()))
        }
        Ok(address) => Ok(address),
    }
}

/// What was meant by ":4420", "localhost:4420", "10.0.0.1" or "::1".
fn meant_address(text: &str, example: &str) -> String {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return format!("add a port: \"{}\"", SocketAddr::new(ip, 4420));
    }
    let port = |prefix: &str| {
        text.strip_prefix(prefix)
            .and_then(|p| p.parse::<u16>().ok())
    };
    if let Some(port) = port(":").or(port("*:")) {
        return format!("write \"0.0.0.0:{port}\" for every address of this machine");
    }
    match port("localhost:") {
        Some(port) => format!("write \"127.0.0.1:{port}\""),
        None => format!("write {example}; host names are not looked up"),
    }
}
