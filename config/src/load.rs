//! From a path to a checked configuration.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{ConfigError, Problem};
use crate::reader::Source;
use crate::{Config, check, limits, parse};

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// Errors: `Read` and `TooLarge` (look at the path), `Refused` (mend the file as the remedy
    /// says). Blocking; for start-up only. Paths inside the file are left as they are written:
    /// relative ones start at the server's working directory, not at the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(ConfigError::Read { file, source }),
        };
        if bytes.len() as u64 > limits::FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { file });
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &file),
            Err(error) => Err(not_text(&bytes, error.valid_up_to(), &file)),
        }
    }

    /// Checks a configuration given as text. `file_name` is only used in errors.
    ///
    /// Errors: `Refused`, with the first broken rule found. Never panics, whatever the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let source = Source::new(text, file_name);
        let draft = parse::document(&source)?;
        check::across_tables(&source, &draft)?;
        Ok(draft.config)
    }
}

/// One byte more than allowed is enough to know that a file is too large, even an endless one.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limits::FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_text(bytes: &[u8], valid_up_to: usize, file: &str) -> ConfigError {
    let readable = String::from_utf8_lossy(&bytes[..valid_up_to]);
    let at = readable.len()..readable.len();
    let remedy = "save the file as UTF-8".to_owned();
    Source::new(&readable, file).refuse(&at, String::new(), Problem::NotText, remedy)
}
