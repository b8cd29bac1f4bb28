//! Values: lists, booleans, numbers and binary strings.
//!
//! Source: RFC 7143 section 6.1.

/// The elements of a list, in order of preference; empty elements are left out.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter(|element| !element.is_empty())
}

/// `Yes` or `No`, as written; nothing else is a boolean.
#[must_use]
pub fn is_yes(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// A number: decimal digits, or `0x` and hexadecimal ones.
#[must_use]
pub fn number(value: &str) -> Option<u64> {
    let (digits, radix) = match strip_prefix(value, 'x') {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // The library's parser takes a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Decodes a binary string (`0x` and hexadecimal digits, or `0b` and base64) into `into`, and gives
/// its length. `None` when it is malformed or does not fit.
pub fn decode_binary(value: &str, into: &mut [u8]) -> Option<usize> {
    if let Some(digits) = strip_prefix(value, 'x') {
        return decode_hex(digits.as_bytes(), into);
    }
    decode_base64(strip_prefix(value, 'b')?.as_bytes(), into)
}

fn strip_prefix(value: &str, letter: char) -> Option<&str> {
    let rest = value.strip_prefix('0')?;
    let upper = letter.to_ascii_uppercase();
    rest.strip_prefix(letter).or(rest.strip_prefix(upper))
}

/// An odd number of digits means a leading zero.
fn decode_hex(digits: &[u8], into: &mut [u8]) -> Option<usize> {
    let (first, pairs) = digits.split_at(digits.len() % 2);
    let first = first.iter().map(|low| [b'0', *low]);
    let pairs = pairs.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    let mut len = 0;
    for [high, low] in first.chain(pairs) {
        *into.get_mut(len)? = nibble(high)? << 4 | nibble(low)?;
        len += 1;
    }
    (len > 0).then_some(len)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// With padding, as RFC 4648 section 4 has it; bits left over have to be zero.
fn decode_base64(text: &[u8], into: &mut [u8]) -> Option<usize> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = text.get(..text.len() - padding)?;
    if padding > 2 {
        return None;
    }
    let (mut bits, mut held, mut len) = (0u32, 0u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(sextet(*digit)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            *into.get_mut(len)? = (bits >> held) as u8;
            bits &= (1 << held) - 1;
            len += 1;
        }
    }
    (bits == 0).then_some(len)
}

fn sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{decode_binary, is_yes, list, number};

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        let table = [
            ("0", Some(0)),
            ("512", Some(512)),
            ("0x200", Some(512)),
            ("0XfF", Some(255)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("0x", None),
            ("-1", None),
            ("+1", None),
            ("0x+1", None),
            ("1 ", None),
            ("12a", None),
            ("0b1", None),
        ];
        for (text, expected) in table {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn booleans_are_written_in_one_way() {
        assert_eq!(is_yes("Yes"), Some(true));
        assert_eq!(is_yes("No"), Some(false));
        for other in ["yes", "NO", "1", "", "Yes ", "true"] {
            assert_eq!(is_yes(other), None, "{other:?}");
        }
    }

    #[test]
    fn lists_keep_their_order() {
        let elements: Vec<&str> = list("CRC32C,None,,X-other").collect();
        assert_eq!(elements, ["CRC32C", "None", "X-other"]);
        assert_eq!(list("").count(), 0);
    }

    #[test]
    fn binary_is_hexadecimal_or_base64() {
        let table: [(&str, Option<&[u8]>); 20] = [
            ("0x0102ff", Some(&[1, 2, 255])),
            ("0X0A", Some(&[10])),
            ("0x102", Some(&[1, 2])),
            ("0x", None),
            ("0x0g", None),
            ("0xg", None),
            ("0bAQL/", Some(&[1, 2, 255])),
            ("0BAQI=", Some(&[1, 2])),
            ("0bAQ==", Some(&[1])),
            ("0bAR==", None),
            ("0bAQ=", None),
            ("0bAQ", None),
            ("0bA===", None),
            ("0b====", None),
            ("0b", None),
            ("0bA=Q=", None),
            ("0b****", None),
            ("", None),
            ("0", None),
            ("0102", None),
        ];
        for (text, expected) in table {
            let mut into = [0; 8];
            let len = decode_binary(text, &mut into);
            assert_eq!(len.map(|len| &into[..len]), expected, "{text:?}");
        }
        assert_eq!(decode_binary("0x0102", &mut [0; 1]), None);
        assert_eq!(decode_binary("0bAQI=", &mut [0; 1]), None);
    }
}
