//! The load threads of RDMA: each is a core of the reactor with a card of its own, and opens its
//! queues itself, since a queue pair cannot change its completion queue.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::task::Poll;
use std::time::Duration;

use rdma::{Card, CardOptions};
use reactor::Spin;
use reactor::time::{sleep, timeout};

use crate::card;
use crate::cli::Wait;
use crate::error::PerfError;
use crate::lane::{Lane, Prepared};
use crate::queue::rdma::{Opening, Rdma, send_entries};
use crate::run::{self, Job, Thread};
use crate::stats::Stats;
use crate::worker::{Shared, Step, Worker};

/// How long a core polls before it sleeps when it is to be kind to others.
const SPIN: Duration = Duration::from_micros(50);
/// How often a thread that is ready looks whether all are.
const READY_INTERVAL: Duration = Duration::from_millis(1);
/// Longest wait for the card to give back what a queue had posted.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Entries beyond what the queues can use.
const SPARE_ENTRIES: u32 = 64;
/// Longest command: the longest buffer has room for headers beside it.
pub const IO_BYTES_MAX: u32 = 1 << 20;

/// One thread's part.
struct Part {
    index: usize,
    share: Vec<Prepared>,
    opening: Opening,
    ready: Sender<Result<(), PerfError>>,
    start: Receiver<Shared>,
}

/// Starts the threads, which open their queues; the run's clock starts when all have.
///
/// Errors: the first of any thread; the others end then.
pub fn start(
    shares: Vec<Vec<Prepared>>,
    job: &Job,
    opening: &Opening,
) -> Result<(Vec<Thread>, Shared), PerfError> {
    let (ready, opened) = channel();
    let (mut threads, mut gates) = (Vec::new(), Vec::new());
    for (index, share) in shares.into_iter().enumerate() {
        let (gate, start) = channel();
        let (cpu, wait) = (job.threads.core(index), job.threads.wait);
        let part = Part {
            index,
            share,
            opening: opening.clone(),
            ready: ready.clone(),
            start,
        };
        threads.push(run::spawn(index, move || thread(part, cpu, wait))?);
        gates.push(gate);
    }
    drop(ready);
    for thread in 0..threads.len() {
        let opened = opened.recv();
        opened.unwrap_or(Err(PerfError::ThreadLost { thread }))?;
    }
    let shared = run::shared(job);
    for gate in gates {
        // A thread that is gone is noticed when it is joined.
        let _ = gate.send(shared.clone());
    }
    Ok((threads, shared))
}

fn thread(part: Part, cpu: Option<usize>, wait: Wait) -> Result<Stats, PerfError> {
    let spin = match wait {
        Wait::Spin => Spin::Always,
        Wait::Poll => Spin::For(SPIN),
    };
    let buffers = part.share.iter().map(buffer_bytes).sum();
    let config = card::core(format!("load-{}", part.index), cpu, spin, buffers);
    let ready = part.ready.clone();
    let result = reactor::cores::run(config, || load(part));
    result.unwrap_or_else(|error| {
        // Nobody waits when the load was on already.
        let _ = ready.send(Err(error.into()));
        Err(PerfError::ThreadLost { thread: 0 })
    })
}

/// Bytes of the buffers of a queue: two a command, of which one goes with its message.
fn buffer_bytes(prepared: &Prepared) -> usize {
    let shape = &prepared.shape;
    let io_bytes = shape.io_bytes as usize;
    2 * usize::from(shape.depth) * io_bytes.next_power_of_two().max(4096)
}

async fn load(part: Part) -> Result<Stats, PerfError> {
    let Part {
        index,
        share,
        opening,
        ready,
        start,
    } = part;
    let lost = PerfError::ThreadLost { thread: index };
    let lanes = match lanes(share, &opening).await {
        Ok(lanes) => lanes,
        Err(error) => {
            // Whoever waits for the first error has it when this one is not heard.
            let _ = ready.send(Err(error));
            return Err(lost);
        }
    };
    if ready.send(Ok(())).is_err() {
        return Err(lost);
    }
    let Some(shared) = started(&start).await else {
        return Err(lost);
    };
    let mut worker = Worker::new(index, lanes, shared);
    let result = steps(&mut worker).await;
    for lane in worker.lanes().drain(..) {
        lane.link.close(CLOSE_LIMIT).await;
    }
    worker.finish(result)
}

/// Opens the queues of a thread, on a card of its core.
async fn lanes(share: Vec<Prepared>, opening: &Opening) -> Result<Vec<Lane<Rdma>>, PerfError> {
    let card = opening.cards.card(options(&share))?;
    let mut lanes = Vec::new();
    for prepared in share {
        lanes.push(lane(&card, opening, prepared).await?);
    }
    Ok(lanes)
}

async fn lane(
    card: &Card,
    opening: &Opening,
    mut prepared: Prepared,
) -> Result<Lane<Rdma>, PerfError> {
    let (qid, shape) = (prepared.qid, prepared.shape);
    let pattern = std::mem::take(&mut prepared.pattern);
    let link = Rdma::open(card, opening, qid, shape, pattern).await;
    prepared.lane(|_, _, _| link)
}

fn options(share: &[Prepared]) -> CardOptions {
    let depths = share.iter().map(|one| one.shape.depth);
    let receives = depths.clone().map(u32::from).sum::<u32>() + SPARE_ENTRIES;
    let sends = depths.map(send_entries).sum::<u32>();
    CardOptions {
        receive_entries: receives,
        receive_data_bytes: 0,
        completion_entries: receives + sends + SPARE_ENTRIES,
        exposes_memory: true,
        ..CardOptions::default()
    }
}

/// What the threads share, once all are ready; none when one failed.
async fn started(start: &Receiver<Shared>) -> Option<Shared> {
    loop {
        match start.try_recv() {
            Ok(shared) => return Some(shared),
            Err(TryRecvError::Empty) => sleep(READY_INTERVAL).await,
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}

async fn steps(worker: &mut Worker<Rdma>) -> Result<(), PerfError> {
    loop {
        match worker.step()? {
            Step::Over => return Ok(()),
            Step::Worked => {}
            Step::Idle => {
                if let Some(limit) = worker.rest() {
                    rest(worker.lanes(), limit).await;
                    worker.rested();
                }
            }
        }
        // Also after a rest: one that has no time to rest must not keep the core from its card.
        reactor::next_turn().await;
    }
}

/// Sleeps until something came for any of the queues, `limit` at most.
async fn rest(lanes: &mut [Lane<Rdma>], limit: Duration) {
    let waits = lanes.iter_mut().map(|lane| lane.link.wait());
    let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> =
        waits.map(|wait| Box::pin(wait) as _).collect();
    let any = poll_fn(|cx| {
        let came = waits
            .iter_mut()
            .any(|wait| wait.as_mut().poll(cx).is_ready());
        if came { Poll::Ready(()) } else { Poll::Pending }
    });
    // Either way the queues are looked at next.
    let _ = timeout(limit, any).await;
}
