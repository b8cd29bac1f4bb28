//! The two tasks of a pair: one takes in what the peer sends, one sends.

use std::rc::{Rc, Weak};
use std::time::Duration;

use net::{Closed, first};
use reactor::time::{sleep, sleep_until, timeout};

use crate::error::{Lost, WorkError};

use super::pair::{Pair, Parting};
use super::parser::Parser;

/// Bytes taken in at once.
const SCRATCH_BYTES: usize = 16 << 10;
/// How often a peer that owes an answer is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How often it may be silent then: a real card has sent again seven times by that time.
const SILENCES: u32 = 8;
/// How long last words may take.
const LINGER: Duration = Duration::from_secs(1);

/// Sends until the pair is down and its last words are said.
pub(super) async fn send(pair: Rc<Pair>) {
    while !pair.is_down() {
        let resume = pair.transmit();
        if push_out(&pair).await.is_err() {
            pair.break_down();
        }
        if pair.is_down() {
            break;
        }
        match resume {
            None => pair.output.filled().await,
            Some(at) => {
                first(pair.output.filled(), sleep_until(at)).await;
            }
        }
    }
    if pair.socket.ending().is_none() {
        let limit = LINGER.min(pair.card.options.flush_timeout);
        let _ = timeout(limit, say_last_words(&pair)).await;
    }
    pair.socket.end(());
    pair.socket.shutdown();
    pair.output.clear();
}

/// Hands everything to the kernel, unless the pair goes down meanwhile.
async fn push_out(pair: &Pair) -> Result<(), Closed<()>> {
    while !pair.output.is_empty() && !pair.is_down() {
        if !pair.output.send_once(&pair.socket)? {
            let writable = pair.socket.or_ended(pair.socket.writable());
            if let Some(ready) = first(writable, pair.downed.notified()).await {
                ready??;
            }
        }
    }
    Ok(())
}

async fn say_last_words(pair: &Pair) -> Result<(), Closed<()>> {
    while !pair.output.is_empty() {
        if !pair.output.send_once(&pair.socket)? {
            pair.socket.or_ended(pair.socket.writable()).await??;
        }
    }
    // Closing before the peer has read them could take them away from it.
    pair.socket.or_ended(std::future::pending()).await
}

/// Takes in what the peer sends, until one of us has ended the connection.
pub(super) async fn receive(pair: Rc<Pair>) {
    let mut parser = Parser::default();
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        // A peer that asks and does not take the answers is not asked for more.
        while pair.output.is_congested() && pair.socket.ending().is_none() {
            let _ = pair.socket.or_ended(pair.output.drained()).await;
        }
        match pair.socket.recv(&mut scratch).await {
            Ok(count) => {
                let bytes = scratch.get(..count).unwrap_or_default();
                let heard = pair.heard_bytes.get() + bytes.len() as u64;
                pair.heard_bytes.set(heard);
                if parser.take_in(&pair, bytes).is_break() {
                    break;
                }
            }
            Err(Closed::ByPeer) => {
                pair.go_down(WorkError::Flushed, Lost::ByPeer, Parting::AtOnce);
                break;
            }
            Err(Closed::Failed(_)) => {
                pair.break_down();
                break;
            }
            Err(Closed::Ended(())) => break,
        }
    }
    pair.socket.end(());
    pair.output.wake();
}

/// Breaks the pair when its peer owes an answer and nothing comes from it any more, long before TCP
/// gives up.
pub(super) async fn watch(pair: Weak<Pair>) {
    let (mut before, mut silences) = (0, 0);
    loop {
        sleep(WATCH).await;
        let Some(pair) = pair.upgrade() else { return };
        if pair.is_down() {
            return;
        }
        let heard = pair.heard_bytes.get();
        let is_silent = heard == before && pair.queue.borrow().has_sent();
        before = heard;
        silences = if is_silent { silences + 1 } else { 0 };
        if silences == SILENCES {
            return pair.break_down();
        }
    }
}
