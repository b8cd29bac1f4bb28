//! The send queue of one pair: posted work, in order, until the peer has carried it out.

use std::collections::VecDeque;
use std::time::Duration;

use reactor::Instant;

use crate::completion::{Completion, Done};
use crate::error::WorkError;
use crate::work::Work;

use super::faults::{Planned, Strikes};

/// How long a requester waits when the responder had no receive.
const NOT_READY_WAIT: Duration = Duration::from_micros(500);

struct Entry {
    tag: u64,
    work: Work,
    planned: Option<Planned>,
}

/// The entries at the front are `over`: writes that were carried out, which nobody hears of before
/// later work completes. Then come those that were `sent`, then those that were `rung` for.
pub(super) struct WorkQueue {
    entries: VecDeque<Entry>,
    limit: usize,
    /// Sequence number of the front entry.
    first: u32,
    over: usize,
    sent: usize,
    rung: usize,
    reads: usize,
    read_depth: usize,
    paused_until: Option<Instant>,
    /// After a pause only one request is sent, until it is answered.
    is_probing: bool,
}

/// What to do now.
pub(super) enum Next<'a> {
    /// Nothing, until something happens.
    Nothing,
    /// Nothing before this moment.
    Wait(Instant),
    /// Send this, with this sequence number.
    Send(u32, &'a Work),
    /// Fail the first work that is not over.
    Fail(WorkError),
}

/// An answer that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The first work that is not over has failed.
    Fail(WorkError),
    /// The peer answers what was not asked.
    Nonsense,
}

impl WorkQueue {
    pub fn new(limit: usize, read_depth: u8) -> Self {
        Self {
            entries: VecDeque::with_capacity(limit),
            limit,
            first: 0,
            over: 0,
            sent: 0,
            rung: 0,
            reads: 0,
            read_depth: usize::from(read_depth),
            paused_until: None,
            is_probing: false,
        }
    }

    pub fn room(&self) -> usize {
        self.limit - self.entries.len()
    }

    /// Gives the work back when there is no room.
    pub fn push(&mut self, tag: u64, work: Work, planned: Option<Planned>) -> Result<(), Work> {
        if self.room() == 0 {
            return Err(work);
        }
        let planned = defect(&work, self.read_depth).or(planned);
        self.entries.push_back(Entry { tag, work, planned });
        Ok(())
    }

    pub fn ring(&mut self) {
        self.rung = self.entries.len();
    }

    /// Whether the peer knows of work that it did not answer.
    pub fn has_sent(&self) -> bool {
        self.sent > self.over
    }

    /// Takes the next step; call it until nothing is left to do.
    pub fn next(&mut self, now: Instant) -> Next<'_> {
        if let Some(until) = self.paused_until {
            if now < until {
                return Next::Wait(until);
            }
            self.paused_until = None;
        }
        let is_waiting = self.sent > self.over;
        if self.sent >= self.rung || (self.is_probing && is_waiting) {
            return Next::Nothing;
        }
        let sequence = self.first.wrapping_add(self.sent as u32);
        let Some(entry) = self.entries.get(self.sent) else {
            return Next::Nothing;
        };
        match entry.planned {
            // Everything before it has to complete first.
            Some(planned) if planned.strikes == Strikes::Before => {
                return match is_waiting {
                    true => Next::Nothing,
                    false => Next::Fail(planned.error),
                };
            }
            _ => {}
        }
        if matches!(entry.work, Work::Read { .. }) {
            if self.reads >= self.read_depth {
                return Next::Nothing;
            }
            self.reads += 1;
        }
        self.sent += 1;
        Next::Send(sequence, &entry.work)
    }

    /// Where in the queue a number is that the peer may speak of.
    fn position(&self, sequence: u32) -> Result<usize, Trouble> {
        let at = sequence.wrapping_sub(self.first) as usize;
        match (self.over..self.sent).contains(&at) {
            true => Ok(at),
            false => Err(Trouble::Nonsense),
        }
    }

    /// The peer has carried out everything up to this number.
    pub fn answered(
        &mut self,
        sequence: u32,
        done: &mut dyn FnMut(Completion),
    ) -> Result<(), Trouble> {
        let at = self.position(sequence)?;
        self.finish(at + 1, done)
    }

    /// The peer refuses this request for now: it and what follows is sent again, later.
    pub fn not_ready(
        &mut self,
        sequence: u32,
        done: &mut dyn FnMut(Completion),
    ) -> Result<(), Trouble> {
        let at = self.position(sequence)?;
        let popped = self.first;
        self.finish(at, done)?;
        self.sent = at - self.first.wrapping_sub(popped) as usize;
        self.reads = 0;
        self.paused_until = Some(reactor::now() + NOT_READY_WAIT);
        self.is_probing = true;
        Ok(())
    }

    /// The peer refuses this request for good.
    pub fn refused(
        &mut self,
        sequence: u32,
        error: WorkError,
        done: &mut dyn FnMut(Completion),
    ) -> Result<(), Trouble> {
        let at = self.position(sequence)?;
        self.finish(at, done)?;
        Err(Trouble::Fail(error))
    }

    /// The data of this Read comes next: [`WorkQueue::fill`] until it is all there, then
    /// [`WorkQueue::read_done`].
    pub fn read_begins(
        &mut self,
        sequence: u32,
        len_bytes: usize,
        done: &mut dyn FnMut(Completion),
    ) -> Result<(), Trouble> {
        let at = self.position(sequence)?;
        self.finish(at, done)?;
        match self.entries.get(self.over).map(|entry| &entry.work) {
            Some(Work::Read { into, .. }) if into.len() == len_bytes => Ok(()),
            _ => Err(Trouble::Nonsense),
        }
    }

    /// Bytes of the Read that has begun.
    pub fn fill(&mut self, at: usize, bytes: &[u8]) -> Result<(), Trouble> {
        let over = self.over;
        let target = match self.entries.get_mut(over).map(|entry| &mut entry.work) {
            Some(Work::Read { into, .. }) => into.try_mut(),
            _ => None,
        };
        match target.and_then(|target| target.get_mut(at..at + bytes.len())) {
            Some(target) => {
                target.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Trouble::Nonsense),
        }
    }

    /// All bytes of the Read that has begun are here.
    pub fn read_done(&mut self, done: &mut dyn FnMut(Completion)) -> Result<(), Trouble> {
        if let Some(error) = self.struck(self.over) {
            return Err(Trouble::Fail(error));
        }
        self.over += 1;
        self.reads = self.reads.saturating_sub(1);
        self.is_probing = false;
        self.retire(done);
        Ok(())
    }

    /// Everything in front of `upto` is over, and none of it is a Read.
    fn finish(&mut self, upto: usize, done: &mut dyn FnMut(Completion)) -> Result<(), Trouble> {
        let mut trouble = Ok(());
        while self.over < upto {
            if matches!(
                self.entries.get(self.over),
                None | Some(Entry {
                    work: Work::Read { .. },
                    ..
                })
            ) {
                trouble = Err(Trouble::Nonsense);
                break;
            }
            if let Some(error) = self.struck(self.over) {
                trouble = Err(Trouble::Fail(error));
                break;
            }
            self.over += 1;
            self.is_probing = false;
        }
        self.retire(done);
        trouble
    }

    fn struck(&self, at: usize) -> Option<WorkError> {
        Some(self.entries.get(at)?.planned?.error)
    }

    /// Completes what is over, up to the last work that has a completion.
    fn retire(&mut self, done: &mut dyn FnMut(Completion)) {
        let is_signalled = |entry: &Entry| !matches!(entry.work, Work::Write { .. });
        let last = self.entries.range(..self.over).rposition(is_signalled);
        let count = last.map_or(0, |last| last + 1);
        for entry in self.entries.drain(..count) {
            let tag = entry.tag;
            match entry.work {
                Work::Send { .. } => done(Completion::Done {
                    tag,
                    done: Done::Sent,
                }),
                Work::Read { into, .. } => {
                    let done_read = Done::Read(into);
                    done(Completion::Done {
                        tag,
                        done: done_read,
                    });
                }
                Work::Write { .. } => {}
            }
        }
        self.first = self.first.wrapping_add(count as u32);
        self.over -= count;
        self.sent -= count;
        self.rung -= count;
    }

    /// The end: the first work that is not over fails with `first`, the rest is flushed.
    pub fn flush(&mut self, first: WorkError, done: &mut dyn FnMut(Completion)) {
        let mut error = first;
        for (at, entry) in self.entries.drain(..).enumerate() {
            if at >= self.over {
                let tag = entry.tag;
                done(Completion::Failed { tag, error });
                error = WorkError::Flushed;
            }
        }
        (self.over, self.sent, self.rung, self.reads) = (0, 0, 0, 0);
    }
}

/// What a card finds wrong with work itself.
fn defect(work: &Work, read_depth: usize) -> Option<Planned> {
    let error = match work {
        Work::Read { into, .. } if !into.is_unique() => WorkError::Local,
        Work::Read { .. } if read_depth == 0 => WorkError::RemoteInvalid,
        _ => return None,
    };
    Some(Planned {
        error,
        strikes: Strikes::Before,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{Inline, Payload};

    fn send() -> Work {
        let inline = Inline::new(b"x").expect("short");
        Work::Send {
            payload: Payload::Inline(inline),
            invalidate: None,
        }
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut queue = WorkQueue::new(4, 1);
        queue.first = u32::MAX - 1;
        for tag in 0..4 {
            queue.push(tag, send(), None).expect("room");
        }
        assert!(queue.push(4, send(), None).is_err(), "it is full");
        queue.ring();
        let mut sequences = Vec::new();
        while let Next::Send(sequence, _) = queue.next(Instant::default()) {
            sequences.push(sequence);
        }
        assert_eq!(sequences, [u32::MAX - 1, u32::MAX, 0, 1]);
        let mut tags = Vec::new();
        let mut done = |completion| match completion {
            Completion::Done { tag, .. } => tags.push(tag),
            other => panic!("{other:?}"),
        };
        queue.answered(0, &mut done).expect("it was sent");
        assert_eq!(queue.answered(2, &mut done), Err(Trouble::Nonsense));
        assert_eq!(queue.answered(0, &mut done), Err(Trouble::Nonsense));
        queue.answered(1, &mut done).expect("it was sent");
        assert_eq!(tags, [0, 1, 2, 3]);
        assert_eq!((queue.room(), queue.has_sent()), (4, false));
    }
}
