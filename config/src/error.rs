//! What a refusal looks like: where, what, and what to write instead, as data.

use std::fmt;
use std::io;

use crate::limits;

/// Why there is no configuration. Nothing has been changed on the machine.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{file}: cannot be read: {source}; check the path and who may read it")]
    Read {
        /// The path as given.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error(
        "{file}: larger than {} bytes, which no configuration is; check the path",
        limits::FILE_BYTES_MAX
    )]
    TooLarge {
        /// The path as given.
        file: String,
    },
    /// The text breaks a rule.
    #[error("{0}")]
    Refused(Box<Finding>),
}

impl ConfigError {
    /// The broken rule, unless the file could not even be read.
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Refused(finding) => Some(finding),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// One broken rule.
///
/// `Display` is one line: `FILE:LINE:COLUMN: KEY: PROBLEM; REMEDY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key with its table, as in `pool.size`; empty when the text is not TOML.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// What is wrong with a key or its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not TOML.
    #[error("this is not TOML: {message}")]
    Syntax {
        /// What the TOML parser said.
        message: String,
    },
    /// The file is not UTF-8 text.
    #[error("this is not UTF-8 text")]
    NotText,
    /// No such key here.
    #[error("there is no such key here")]
    UnknownKey,
    /// A key that has to be there is not.
    #[error("this key is missing")]
    Missing,
    /// A value of the wrong TOML type.
    #[error("{found} stands where {expected} belongs")]
    WrongType {
        /// What belongs here.
        expected: &'static str,
        /// What stands here.
        found: &'static str,
    },
    /// A value of the right type that does not say what it should.
    #[error("{found:?} is not {expected}")]
    NotA {
        /// What belongs here.
        expected: &'static str,
        /// The value as given, clipped.
        found: String,
    },
    /// Below the lower bound.
    #[error("{found} is less than the least allowed, {least}")]
    TooSmall {
        /// The value as given, clipped.
        found: String,
        /// The bound.
        least: String,
    },
    /// Above the upper bound.
    #[error("{found} is more than the most allowed, {most}")]
    TooLarge {
        /// The value as given, clipped.
        found: String,
        /// The bound.
        most: String,
    },
    /// Not a whole number of units.
    #[error("{found} is not a multiple of {unit}")]
    NotMultiple {
        /// The value as given.
        found: String,
        /// The unit.
        unit: String,
    },
    /// Not a power of two.
    #[error("{found} is not a power of two")]
    NotPowerOfTwo {
        /// The value as given.
        found: String,
    },
    /// A list without elements.
    #[error("this list is empty")]
    Empty,
    /// The same thing twice.
    #[error("{value} is here twice, first in line {first_line}")]
    Duplicate {
        /// The value as given, clipped.
        value: String,
        /// Line of the first one.
        first_line: usize,
    },
    /// Two addresses that cannot both be listened on.
    #[error("{value} overlaps {other} of line {first_line}")]
    Overlap {
        /// The later address.
        value: String,
        /// The earlier address.
        other: String,
        /// Line of the earlier address.
        first_line: usize,
    },
    /// An address that the default of another key already has.
    #[error("{value} overlaps {default}, the default of {key}")]
    OverlapsDefault {
        /// The address as given.
        value: String,
        /// The address nobody wrote.
        default: String,
        /// The key that has it as its default.
        key: &'static str,
    },
    /// A pool in memory that is to be somewhere else, too.
    #[error("this pool is in memory (line {memory_line}), so its {key} says nothing")]
    InMemory {
        /// The key that does not go with `memory`.
        key: &'static str,
        /// Line of the `memory`.
        memory_line: usize,
    },
    /// A volume in a pool that the file does not have.
    #[error("there is no pool {pool:?}")]
    UnknownPool {
        /// The name as given, clipped.
        pool: String,
    },
    /// The journals of a pool's volumes take the whole pool.
    #[error("the journals of the volumes in pool {pool:?} take {journals} of its {size}")]
    JournalsFillPool {
        /// The pool.
        pool: String,
        /// Its journals together.
        journals: String,
        /// Its size.
        size: String,
    },
    /// Fewer receives than one queue has entries.
    #[error("{receives} receives are fewer than the {queue_depth} entries of one queue")]
    ReceivesBelowQueue {
        /// Receives of a core.
        receives: u64,
        /// Entries of a queue.
        queue_depth: u64,
    },
    /// The receives take more than half of the buffers of a core.
    #[error("receives take {receives}, more than half of the {memory} of buffers of each core")]
    ReceivesFillMemory {
        /// What they take.
        receives: String,
        /// `[reactor] memory`.
        memory: String,
    },
    /// One host could open more connections than there may be.
    #[error("one host may open {wanted} connections, but only {allowed} are allowed in all")]
    QueuesExceedConnections {
        /// `max_queues` and the admin queue.
        wanted: u64,
        /// `max_connections`.
        allowed: u64,
    },
}
