//! Measures file I/O with registered buffers against plain ones, in one run.
//!
//! ```text
//! cargo run --release -p bedplate-reactor --example file_io -- FILE_OR_DEVICE [ROUND_MS]
//! ```
//!
//! A path that does not exist becomes a file of 256 MiB, written once. A device is overwritten
//! when `ROUND_MS` is followed by the word `destroy`; otherwise it is only read.
//!
//! Polled devices (NVMe loaded with `poll_queues=1`) are compared with two runs, with and without.
//!
//! Both kinds take turns in short rounds, so that a busy machine disturbs both alike; what is
//! printed is the median of the rounds' ratios with the least and the greatest. CPU time is the
//! thread's own, in the kernel and outside; the core parks at once, so it holds no polling.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use reactor::Spin;
use reactor::buf::{Buf, BufList, BufPool, pool};
use reactor::cores::{self, CoreConfig};
use reactor::fs::{File, OpenOptions};
use reactor::{precise_now, random_u64, spawn};

const BLOCK: usize = 4096;
const FILE_BYTES: u64 = 256 << 20;
const ROUNDS: usize = 11;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    is_write: bool,
    depth: usize,
    slices: usize,
}

const fn case(name: &'static str, is_write: bool, depth: usize, slices: usize) -> Case {
    Case {
        name,
        is_write,
        depth,
        slices,
    }
}

const CASES: [Case; 6] = [
    case("4 KiB randread QD1", false, 1, 1),
    case("4 KiB randread QD32", false, 32, 1),
    case("64 KiB randread QD8, 16 slices", false, 8, 16),
    case("4 KiB randwrite QD1", true, 1, 1),
    case("4 KiB randwrite QD32", true, 32, 1),
    case("64 KiB randwrite QD8, 16 slices", true, 8, 16),
];

/// What a round came to, per operation.
#[derive(Clone, Copy)]
struct Cost {
    wall_us: f64,
    cpu_us: f64,
}

/// Time this thread has been on a CPU.
fn cpu_us() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent_ns = text.split(' ').next().and_then(|word| word.parse().ok());
    spent_ns.unwrap_or(0.0) / 1000.0
}

async fn list_of(pool: &BufPool, slices: usize) -> BufList {
    let mut list = BufList::new();
    for _ in 0..slices {
        let mut buf: Buf = pool.alloc(BLOCK).await;
        buf.as_mut().fill(0x5A);
        list.push(buf);
    }
    list
}

async fn round(file: &File, pool: &BufPool, case: Case, span: Duration) -> Cost {
    let ops = Rc::new(Cell::new(0u64));
    let mut lists = Vec::new();
    for _ in 0..case.depth {
        lists.push(list_of(pool, case.slices).await);
    }
    let (started, cpu_before) = (precise_now(), cpu_us());
    let until = started + span;
    let mut tasks = Vec::new();
    for mut list in lists {
        let (file, ops) = (file.clone(), ops.clone());
        tasks.push(spawn(async move {
            let spots = file.info().len_bytes / list.len_bytes() as u64;
            while reactor::now() < until {
                let offset = random_u64() % spots * list.len_bytes() as u64;
                let (result, back) = if case.is_write {
                    file.write_at(offset, list).await
                } else {
                    file.read_list_at(offset, list).await
                };
                result.expect("the device works");
                list = back;
                ops.set(ops.get() + 1);
            }
        }));
    }
    for task in tasks {
        task.await;
    }
    let wall_us = precise_now().duration_since(started).as_micros() as f64;
    let count = ops.get().max(1) as f64;
    Cost {
        wall_us: wall_us / count,
        cpu_us: (cpu_us() - cpu_before) / count,
    }
}

/// Median, least and greatest.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (last, middle) = (values.len() - 1, values.len() / 2);
    format!(
        "{:.3} ({:.3}..{:.3})",
        values[middle], values[0], values[last]
    )
}

async fn compare(file: &File, foreign: &BufPool, case: Case, span: Duration) {
    let mut pairs = Vec::new();
    for number in 0..ROUNDS {
        // Whoever comes second may find a warmer device: they take turns in that, too.
        let (fixed, plain);
        if number % 2 == 0 {
            fixed = round(file, &pool(), case, span).await;
            plain = round(file, foreign, case, span).await;
        } else {
            plain = round(file, foreign, case, span).await;
            fixed = round(file, &pool(), case, span).await;
        }
        pairs.push((fixed, plain));
    }
    let of = |value: fn(&(Cost, Cost)) -> f64| spread(pairs.iter().map(value).collect());
    println!("{}", case.name);
    println!("  plain:  us per op   {}", of(|(_, plain)| plain.wall_us));
    println!("          CPU us      {}", of(|(_, plain)| plain.cpu_us));
    println!("  fixed:  us per op   {}", of(|(fixed, _)| fixed.wall_us));
    println!("          CPU us      {}", of(|(fixed, _)| fixed.cpu_us));
    let wall = of(|(fixed, plain)| fixed.wall_us / plain.wall_us);
    let cpu = of(|(fixed, plain)| fixed.cpu_us / plain.cpu_us);
    println!("  fixed / plain: time {wall}, CPU {cpu}");
}

async fn open(path: &Path) -> File {
    if path.exists() {
        return File::open(path, &OpenOptions::default()).expect("the file opens");
    }
    let create = OpenOptions {
        create_len: Some(FILE_BYTES),
        ..OpenOptions::default()
    };
    let file = File::open(path, &create).expect("the file can be made");
    // Reserved but unwritten space is slower, and differently so each time.
    let mut list = list_of(&pool(), 64).await;
    for offset in (0..FILE_BYTES).step_by(list.len_bytes()) {
        let (result, back) = file.write_at(offset, list).await;
        result.expect("the disk takes it");
        list = back;
    }
    file.sync().await.expect("the disk keeps it");
    file
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path: PathBuf = args.next().expect("which file or device?").into();
    let round_ms = args.next().and_then(|word| word.parse().ok());
    let span = Duration::from_millis(round_ms.unwrap_or(300));
    let may_destroy = args.next().is_some_and(|word| word == "destroy");
    let config = CoreConfig {
        spin: Spin::For(Duration::ZERO),
        ..CoreConfig::default()
    };
    let measured = cores::run(config, move || async move {
        let file = open(&path).await;
        let info = file.info();
        println!(
            "polled: {}, commands: {}",
            info.is_polled, info.is_passthrough
        );
        let foreign = BufPool::new(64 << 20, "foreign").expect("memory");
        for case in CASES {
            if !case.is_write || may_destroy || !file.info().is_block_device {
                compare(&file, &foreign, case, span).await;
            }
        }
    });
    measured.expect("the core runs");
}
