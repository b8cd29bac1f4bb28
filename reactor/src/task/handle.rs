//! The handle to a task's result.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Stage;
use crate::context::Core;
use crate::waker::TaskWord;

/// A task's result. Await it for the output; drop it to let the task run on by itself.
pub struct JoinHandle<T> {
    core: Rc<Core>,
    word: TaskWord,
    taken: bool,
    output: PhantomData<*const T>,
}

impl<T> Unpin for JoinHandle<T> {}

impl<T: 'static> JoinHandle<T> {
    pub(crate) fn new(core: Rc<Core>, word: TaskWord) -> JoinHandle<T> {
        JoinHandle {
            core,
            word,
            taken: false,
            output: PhantomData,
        }
    }

    /// Lets the task run on by itself; its output is dropped.
    pub fn detach(self) {}

    /// Whether the output is there (awaiting will not wait).
    pub fn is_finished(&self) -> bool {
        let mut tasks = self.core.tasks.borrow_mut();
        tasks
            .slot_mut(self.word)
            .is_none_or(|slot| slot.stage == Stage::Finished)
    }

    /// Ends the task: its future is dropped now, or when its current poll returns if the task
    /// aborts itself. Operations it had in flight become orphans (see the cancellation contract).
    pub fn abort(mut self) {
        self.taken = true;
        let mut tasks = self.core.tasks.borrow_mut();
        let Some(slot) = tasks.slot_mut(self.word) else {
            return;
        };
        slot.has_handle = false;
        match slot.stage {
            Stage::Running => slot.aborted = true,
            Stage::Idle | Stage::Finished => {
                let body = slot.take_to_clear();
                drop(tasks);
                self.core.clear_and_release(self.word, body);
            }
            Stage::Clearing | Stage::Vacant => {}
        }
    }

    /// The output, if the task has finished.
    pub(crate) fn try_take(&mut self) -> Option<T> {
        assert!(!self.taken, "a task's output was awaited twice");
        let mut tasks = self.core.tasks.borrow_mut();
        let slot = tasks.slot_mut(self.word)?;
        if slot.stage != Stage::Finished {
            return None;
        }
        let mut body = slot.take_to_clear();
        drop(tasks);
        self.taken = true;
        let output = body.take_output();
        self.core.clear_and_release(self.word, body);
        Some(output)
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(output) = self.try_take() {
            return Poll::Ready(output);
        }
        let mut tasks = self.core.tasks.borrow_mut();
        // A task that is gone was dropped with its executor: whoever waits here is dropped too.
        if let Some(slot) = tasks.slot_mut(self.word) {
            slot.join_waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut tasks = self.core.tasks.borrow_mut();
        let Some(slot) = tasks.slot_mut(self.word) else {
            return;
        };
        slot.has_handle = false;
        let waker = slot.join_waker.take();
        let is_finished = slot.stage == Stage::Finished;
        let body = is_finished.then(|| slot.take_to_clear());
        drop(tasks);
        drop(waker);
        if let Some(body) = body {
            self.core.clear_and_release(self.word, body);
        }
    }
}
