//! Writes numbered records and reports each one that is durable; later finds them again.
//!
//! Runs inside the test VM. One process writes one stream, a record at a time:
//!
//! ```text
//! vm-writer write STREAM PATH OFFSET SLOTS RECORD_BYTES RUN fsync|direct STOP_FILE
//! vm-writer check STREAM PATH OFFSET SLOTS RECORD_BYTES RUN
//! ```
//!
//! `write` prints `ACK STREAM N` once record N is durable: with `fsync` after the fsync of the file
//! returned, with `direct` after the O_DIRECT write returned. It ends when STOP_FILE exists. `check`
//! reads past the page cache, prints `FOUND STREAM N`, and fails when any slot contradicts that.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{Error, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vm_tests::slots;

/// Enough for every device and file system the guest can have below O_DIRECT.
const ALIGNMENT: usize = 4096;
/// How many wrong slots are described before the rest is only counted.
const WRONG_SHOWN: usize = 10;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Where a stream lies and what its records look like.
struct Stream {
    name: String,
    path: PathBuf,
    offset: u64,
    slots: u64,
    record_bytes: usize,
    run: u64,
}

/// When a record counts as durable.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Durable {
    AfterFsync,
    AfterDirectWrite,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vm-writer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", stream @ .., "fsync", stop] => write(
            &Stream::parse(stream)?,
            Durable::AfterFsync,
            Path::new(stop),
        ),
        ["write", stream @ .., "direct", stop] => write(
            &Stream::parse(stream)?,
            Durable::AfterDirectWrite,
            Path::new(stop),
        ),
        ["check", stream @ ..] => check(&Stream::parse(stream)?),
        _ => Err("say 'write' or 'check'; the head of src/bin/vm_writer.rs tells the rest".into()),
    }
}

impl Stream {
    fn parse(words: &[&str]) -> Result<Self> {
        let &[name, path, offset, slots, record_bytes, run] = words else {
            return Err("a stream is STREAM PATH OFFSET SLOTS RECORD_BYTES RUN".into());
        };
        let stream = Self {
            name: name.to_owned(),
            path: PathBuf::from(path),
            offset: offset.parse()?,
            slots: slots.parse()?,
            record_bytes: record_bytes.parse()?,
            run: run.parse()?,
        };
        if stream.slots == 0 || stream.record_bytes < 512 {
            return Err("there must be a slot, and records of at least 512 bytes".into());
        }
        Ok(stream)
    }

    fn position(&self, number: u64) -> u64 {
        self.offset + number % self.slots * self.record_bytes as u64
    }

    fn open(&self, options: &mut OpenOptions) -> Result<File> {
        let opened = options.open(&self.path);
        opened.map_err(|error| format!("cannot open {}: {error}", self.path.display()).into())
    }
}

fn write(stream: &Stream, durable: Durable, stop: &Path) -> Result<()> {
    let mut options = File::options();
    options.write(true);
    match durable {
        Durable::AfterFsync => options.create(true),
        Durable::AfterDirectWrite => options.custom_flags(libc::O_DIRECT),
    };
    let file = stream.open(&mut options)?;
    let mut memory = Aligned::new(stream.record_bytes);
    for number in 1.. {
        if stop.exists() {
            break;
        }
        let record = memory.bytes();
        slots::fill(stream.run, number, record);
        file.write_all_at(record, stream.position(number))
            .and_then(|()| {
                if durable == Durable::AfterFsync {
                    file.sync_all()
                } else {
                    Ok(())
                }
            })
            .map_err(|error| failed(stream, "write", number, &error))?;
        acknowledge(&stream.name, number)?;
    }
    Ok(())
}

/// One write call for the whole line: lines of several writers must not mix on the console.
fn acknowledge(name: &str, number: u64) -> Result<()> {
    let line = format!("ACK {name} {number}\n");
    Ok(std::io::stdout().write_all(line.as_bytes())?)
}

fn check(stream: &Stream) -> Result<()> {
    let file = stream.open(File::options().read(true).custom_flags(libc::O_DIRECT))?;
    let mut memory = Aligned::new(stream.record_bytes);
    let mut found = Vec::new();
    for slot in 0..stream.slots {
        let bytes = memory.bytes();
        let len = file
            .read_at(bytes, stream.position(slot))
            .map_err(|error| failed(stream, "read", slot, &error))?;
        found.push(slots::read(stream.run, &bytes[..len]));
    }
    let (newest, wrong) = slots::judge(&found);
    println!("FOUND {} {newest}", stream.name);
    for slot in wrong.iter().take(WRONG_SHOWN) {
        eprintln!("vm-writer: {}: {slot:?}", stream.name);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}: {} slots of {} are wrong",
        stream.name,
        wrong.len(),
        stream.slots
    )
    .into())
}

fn failed(stream: &Stream, action: &str, number: u64, error: &Error) -> String {
    let Stream { name, path, .. } = stream;
    format!(
        "{name}: cannot {action} {number} on {}: {error}",
        path.display()
    )
}

/// Memory that O_DIRECT takes.
struct Aligned {
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let storage = vec![0; len + ALIGNMENT];
        let start = storage.as_ptr().align_offset(ALIGNMENT);
        Self {
            storage,
            start,
            len,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}
