//! Typed access to parsed TOML that remembers where everything stood.

use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::ByteSize;
use crate::error::{ConfigError, Finding, Problem};
use crate::schema::{self, TABLES};
use crate::suggest::nearest;

/// Byte range in the text.
pub(crate) type At = Range<usize>;

type Result<T> = std::result::Result<T, ConfigError>;

/// The text being read; turns byte offsets into lines and columns.
pub(crate) struct Source<'a> {
    pub text: &'a str,
    file: &'a str,
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str, file: &'a str) -> Self {
        Self { text, file }
    }

    /// Line and column of an offset, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line_start = before
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let is_char_start = |b: &&u8| (**b & 0xc0) != 0x80;
        (
            line,
            before[line_start..].iter().filter(is_char_start).count() + 1,
        )
    }

    /// The line an offset is in, from 1.
    pub fn line(&self, at: &At) -> usize {
        self.position(at.start).0
    }

    pub fn refuse(&self, at: &At, key: String, problem: Problem, remedy: String) -> ConfigError {
        let (line, column) = self.position(at.start);
        let file = self.file.to_owned();
        ConfigError::Refused(Box::new(Finding {
            file,
            line,
            column,
            key,
            problem,
            remedy,
        }))
    }

    /// Parses the text; what is not TOML is refused in the TOML parser's words.
    pub fn document(&self) -> Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|error| {
            let end = self.text.len();
            let at = error.span().unwrap_or(end..end);
            let message = clip(&error.message().trim_end().replace('\n', ", "));
            let remedy = syntax_remedy(&message);
            self.refuse(&at, String::new(), Problem::Syntax { message }, remedy)
        })
    }
}

fn syntax_remedy(message: &str) -> String {
    if message.contains("duplicate key") {
        "keep one of the two".to_owned()
    } else {
        "write key = value, texts in quotes, tables as [name]".to_owned()
    }
}

/// One table of the file, known to hold nothing but known keys.
pub(crate) struct Table<'a> {
    source: &'a Source<'a>,
    name: &'static str,
    table: &'a DeTable<'a>,
    at: At,
}

impl<'a> Table<'a> {
    /// Takes the value as the table `name`; refuses unknown keys in it.
    pub fn new(
        source: &'a Source<'a>,
        name: &'static str,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Result<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            let problem = wrong_type("a table", value.get_ref());
            let header = schema::header(name);
            let remedy = format!("write {header} on a line of its own and its keys below it");
            return Err(source.refuse(&value.span(), name.to_owned(), problem, remedy));
        };
        let known = |key: &str| schema::keys_of(name).any(|other| other == key);
        refuse_unknown(source, name, table, known)?;
        Ok(Self {
            source,
            name,
            table,
            at: value.span(),
        })
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &'static str) -> Option<Entry<'a>> {
        debug_assert!(schema::keys_of(self.name).any(|known| known == key));
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        let key = format!("{}.{key}", self.name);
        Some(Entry {
            source: self.source,
            key,
            value: value.get_ref(),
            at: value.span(),
        })
    }

    /// The line that something in this table stands in.
    pub fn line(&self, at: &At) -> usize {
        self.source.line(at)
    }

    /// The value of a key that has to be there; `example` says what to write when it is not.
    pub fn required(&self, key: &'static str, example: &str) -> Result<Entry<'a>> {
        self.get(key).ok_or_else(|| {
            let remedy = format!(
                "write {key} = {example} below {}",
                schema::header(self.name)
            );
            let path = format!("{}.{key}", self.name);
            self.source.refuse(&self.at, path, Problem::Missing, remedy)
        })
    }
}

/// Refuses the first key of the document that is not a table the schema knows.
pub(crate) fn refuse_unknown_tables(source: &Source<'_>, document: &DeTable<'_>) -> Result<()> {
    refuse_unknown(source, "", document, |key| {
        TABLES.iter().any(|table| table.name == key)
    })
}

fn refuse_unknown(
    source: &Source<'_>,
    table: &str,
    entries: &DeTable<'_>,
    known: impl Fn(&str) -> bool,
) -> Result<()> {
    let unknown = entries
        .keys()
        .filter(|key| !known(key.get_ref()))
        .min_by_key(|k| k.span().start);
    let Some(key) = unknown else { return Ok(()) };
    let word = clip(key.get_ref());
    let path = if table.is_empty() {
        word
    } else {
        format!("{table}.{word}")
    };
    let remedy = unknown_remedy(table, key.get_ref());
    Err(source.refuse(&key.span(), path, Problem::UnknownKey, remedy))
}

/// Where the key belongs, or what was meant, or what there is.
fn unknown_remedy(table: &str, word: &str) -> String {
    let homes: Vec<String> = schema::tables_with(word)
        .map(|home| home.header())
        .collect();
    if !homes.is_empty() {
        return format!("{word} belongs below {}", homes.join(" or "));
    }
    let candidates: Vec<&str> = if table.is_empty() {
        TABLES.iter().map(|table| table.name).collect()
    } else {
        schema::keys_of(table).collect()
    };
    match nearest(word, candidates.iter().copied()) {
        Some(meant) if table.is_empty() => format!("did you mean {}?", schema::header(meant)),
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("there are: {}", candidates.join(", ")),
    }
}

fn wrong_type(expected: &'static str, found: &DeValue<'_>) -> Problem {
    let found = match found {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Problem::WrongType { expected, found }
}

/// Keeps errors to one short line without control characters, whatever was in the file.
pub(crate) fn clip(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut clipped: String = text.chars().take(CHARS_MAX).map(shown).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        clipped.push_str("...");
    }
    clipped
}

/// Bounds of a size; every size is a multiple of `unit`.
pub(crate) struct SizeRule {
    pub least: ByteSize,
    pub most: ByteSize,
    pub unit: ByteSize,
}

/// One value with its key and its place.
pub(crate) struct Entry<'a> {
    source: &'a Source<'a>,
    key: String,
    value: &'a DeValue<'a>,
    pub at: At,
}

impl<'a> Entry<'a> {
    pub fn refuse(&self, problem: Problem, remedy: impl Into<String>) -> ConfigError {
        self.source
            .refuse(&self.at, self.key.clone(), problem, remedy.into())
    }

    /// A text. `example` is shown when it is something else.
    pub fn text(&self, example: &str) -> Result<&'a str> {
        match self.value {
            DeValue::String(text) => Ok(text),
            other => {
                let remedy = format!("write {example}, with the quotes");
                Err(self.refuse(wrong_type("a text", other), remedy))
            }
        }
    }

    /// A text that `T` can be read from; `remedy` is made from the reason why it cannot.
    pub fn parsed<T: FromStr>(
        &self,
        expected: &'static str,
        example: &str,
        remedy: impl FnOnce(T::Err) -> String,
    ) -> Result<T> {
        let text = self.text(example)?;
        text.parse().map_err(|error| {
            self.refuse(
                Problem::NotA {
                    expected,
                    found: clip(text),
                },
                remedy(error),
            )
        })
    }

    /// A whole number within a range.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Result<u64> {
        let DeValue::Integer(digits) = self.value else {
            let remedy = format!(
                "write a whole number from {} to {}",
                range.start(),
                range.end()
            );
            return Err(self.refuse(wrong_type("a whole number", self.value), remedy));
        };
        let found = clip(&digits.to_string());
        let value = u64::from_str_radix(digits.as_str(), digits.radix());
        match value {
            Ok(value) if range.contains(&value) => Ok(value),
            Ok(value) if value > *range.end() => Err(self.above(found, range.end().to_string())),
            Ok(_) => Err(self.below(found, range.start().to_string())),
            Err(_) if found.starts_with('-') => Err(self.below(found, range.start().to_string())),
            Err(_) => Err(self.above(found, range.end().to_string())),
        }
    }

    /// A size within its rule.
    pub fn size(&self, rule: &SizeRule) -> Result<ByteSize> {
        let size = self.any_size(rule)?;
        let quoted = |size: ByteSize| format!("\"{size}\"");
        if size < rule.least {
            return Err(self.below(size.to_string(), quoted(rule.least)));
        }
        if size > rule.most {
            return Err(self.above(size.to_string(), quoted(rule.most)));
        }
        if !size.is_multiple_of(rule.unit) {
            let unit = rule.unit.bytes();
            // No overflow: `size` is at most `most`, itself a multiple of the unit.
            let next = ByteSize::from_bytes(size.bytes().div_ceil(unit) * unit);
            let problem = Problem::NotMultiple {
                found: size.to_string(),
                unit: rule.unit.to_string(),
            };
            return Err(self.refuse(problem, format!("write {}", quoted(next))));
        }
        Ok(size)
    }

    fn any_size(&self, rule: &SizeRule) -> Result<ByteSize> {
        let example = match self.value {
            DeValue::Integer(digits) => format!("\"{}\"", clip(&digits.to_string())),
            _ => format!("a size, for example \"{}\"", rule.least),
        };
        self.parsed(
            "a size",
            &example,
            |error: crate::InvalidSize| match error.meant {
                Some(meant) => format!("write \"{meant}\""),
                None => format!(
                    "write a whole number and a unit, for example \"{}\"",
                    rule.least
                ),
            },
        )
    }

    /// The elements of a list that has at least one and at most `count_max`.
    pub fn list(&self, count_max: usize, if_empty: &str) -> Result<Vec<Entry<'a>>> {
        let DeValue::Array(array) = self.value else {
            let problem = wrong_type("a list", self.value);
            return Err(self.refuse(problem, "write it in brackets: [...]"));
        };
        if array.is_empty() {
            return Err(self.refuse(Problem::Empty, if_empty));
        }
        if array.len() > count_max {
            let found = format!("{} elements", array.len());
            return Err(self.above(found, count_max.to_string()));
        }
        let element = |value: &'a Spanned<DeValue<'a>>| Entry {
            source: self.source,
            key: self.key.clone(),
            value: value.get_ref(),
            at: value.span(),
        };
        Ok(array.iter().map(element).collect())
    }

    /// Refuses a value that an earlier element already had.
    pub fn refuse_twice(&self, value: &str, first: &At) -> ConfigError {
        let first_line = self.source.line(first);
        self.refuse(
            Problem::Duplicate {
                value: clip(value),
                first_line,
            },
            "remove one of the two",
        )
    }

    pub fn below(&self, found: String, least: String) -> ConfigError {
        let remedy = format!("write {least} or more");
        let least = least.replace('"', "");
        self.refuse(Problem::TooSmall { found, least }, remedy)
    }

    pub fn above(&self, found: String, most: String) -> ConfigError {
        let remedy = format!("write {most} or less");
        let most = most.replace('"', "");
        self.refuse(Problem::TooLarge { found, most }, remedy)
    }
}
