//! A task's memory: type-erased futures and outputs, recycled by size class.
//!
//! Why it is sound: a [`Body`] is the only owner of its memory, and `functions` is chosen together
//! with the content's type when it is made, so each function meets the type it was made for.
//! A future is never moved between its first poll and its drop: only the `Body` that points to it
//! moves.
#![expect(unsafe_code, reason = "type-erased futures live in recycled memory")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::any::TypeId;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// Memory of a task starts at a cache line.
const ALIGN: usize = 64;
const SMALLEST_BYTES: usize = 128;
/// 128 bytes to 4 MiB, doubling.
const CLASSES: usize = 16;

/// One task's future, then its output: an owner like `Box`, of any type, in recycled memory.
/// Moving a `Body` moves neither.
pub(super) struct Body {
    memory: NonNull<u8>,
    class: usize,
    functions: &'static Functions,
}

impl Body {
    /// The future is made where it will live: a value of its size (kilobytes, most of them not in
    /// use yet) would be copied on its way from the caller.
    #[inline(always)]
    pub(super) fn new<F>(memory: &mut Memory, make: impl FnOnce() -> F) -> Body
    where
        F: Future<Output: 'static> + 'static,
    {
        const { assert!(align_of::<Content<F>>() <= ALIGN) };
        const { assert!(size_of::<Content<F>>() <= SMALLEST_BYTES << (CLASSES - 1)) };
        let class = Memory::class_of(size_of::<Content<F>>());
        let memory = memory.take(class);
        // SAFETY: the memory is of a class that fits the content, aligned, and nobody else's.
        unsafe { memory.cast::<Content<F>>().write(Content::Running(make())) };
        Body {
            memory,
            class,
            functions: &TypedFunctions::<F>::FUNCTIONS,
        }
    }

    /// Polls the future; on `Ready` its output is here. Panics after that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: we own the content, and `functions` is of its type (see `new`).
        unsafe { (self.functions.poll)(self.memory, cx) }
    }

    /// Moves the output out. Panics when there is none, or of another type.
    pub(super) fn take_output<T: 'static>(&mut self) -> T {
        assert_eq!(
            (self.functions.output)(),
            TypeId::of::<T>(),
            "an output of another type"
        );
        let mut output = MaybeUninit::<T>::uninit();
        let target = NonNull::from(&mut output).cast::<u8>();
        // SAFETY: as in `poll`; the target fits the output, whose type was just checked.
        unsafe { (self.functions.take_output)(self.memory, target) };
        // SAFETY: `take_output` wrote it, or panicked.
        unsafe { output.assume_init() }
    }

    /// Drops what is here. Runs foreign code.
    pub(super) fn clear(&mut self) {
        // SAFETY: as in `poll`.
        unsafe { (self.functions.clear)(self.memory) };
    }
}

impl Drop for Body {
    /// Only when a task panics or its core ends; else the memory is recycled.
    fn drop(&mut self) {
        self.clear();
        // SAFETY: `Memory::take` allocated it with this layout, and its content was dropped.
        unsafe { dealloc(self.memory.as_ptr(), Memory::layout(self.class)) };
    }
}

/// Free task memory of every size class.
#[derive(Default)]
pub(super) struct Memory {
    free: [Vec<NonNull<u8>>; CLASSES],
}

impl Memory {
    fn class_of(len_bytes: usize) -> usize {
        let units = len_bytes
            .max(1)
            .div_ceil(SMALLEST_BYTES)
            .next_power_of_two();
        units.trailing_zeros() as usize
    }

    fn layout(class: usize) -> Layout {
        Layout::from_size_align(SMALLEST_BYTES << class, ALIGN).expect("a class fits a layout")
    }

    fn take(&mut self, class: usize) -> NonNull<u8> {
        if let Some(memory) = self.free[class].pop() {
            return memory;
        }
        let layout = Memory::layout(class);
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc(layout) };
        NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// Takes back the memory of a finished task.
    pub(super) fn recycle(&mut self, mut body: Body) {
        body.clear();
        let body = ManuallyDrop::new(body);
        self.free[body.class].push(body.memory);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (class, free) in self.free.iter_mut().enumerate() {
            for memory in free.drain(..) {
                // SAFETY: `take` allocated it with this layout, and it is in no task now.
                unsafe { dealloc(memory.as_ptr(), Memory::layout(class)) };
            }
        }
    }
}

/// What is in a task's memory.
enum Content<F: Future> {
    Running(F),
    Finished(F::Output),
    Empty,
}

/// The functions of one task type.
struct Functions {
    /// The type of the output.
    output: fn() -> TypeId,
    /// Polls the future; on `Ready` the output has taken its place.
    poll: unsafe fn(NonNull<u8>, &mut Context<'_>) -> Poll<()>,
    /// Moves the output out to the pointer (a `MaybeUninit` of the output's type).
    take_output: unsafe fn(NonNull<u8>, NonNull<u8>),
    /// Drops what is there and leaves `Empty`.
    clear: unsafe fn(NonNull<u8>),
}

struct TypedFunctions<F>(PhantomData<F>);

impl<F: Future<Output: 'static>> TypedFunctions<F> {
    const FUNCTIONS: Functions = Functions {
        output: TypeId::of::<F::Output>,
        poll: poll::<F>,
        take_output: take_output::<F>,
        clear: clear::<F>,
    };
}

/// # Safety
/// `memory` holds a `Content<F>` that nothing else refers to and that does not move while it is
/// `Running`.
unsafe fn poll<F: Future>(memory: NonNull<u8>, cx: &mut Context<'_>) -> Poll<()> {
    // SAFETY: the caller's promise.
    let content = unsafe { memory.cast::<Content<F>>().as_mut() };
    let Content::Running(future) = content else {
        panic!("a task was polled after it had finished");
    };
    // SAFETY: the future stays in this memory until it is dropped there, by `clear` or by the
    // assignment below.
    let future = unsafe { Pin::new_unchecked(future) };
    let output = std::task::ready!(future.poll(cx));
    *content = Content::Finished(output);
    Poll::Ready(())
}

/// # Safety
/// As for `poll`; `output` is valid for a write of `F::Output`.
unsafe fn take_output<F: Future>(memory: NonNull<u8>, output: NonNull<u8>) {
    // SAFETY: the caller's promise.
    let content = unsafe { memory.cast::<Content<F>>().as_mut() };
    let Content::Finished(value) = mem::replace(content, Content::Empty) else {
        panic!("the output of an unfinished task was taken");
    };
    // SAFETY: the caller's promise.
    unsafe { output.cast::<F::Output>().write(value) };
}

/// # Safety
/// As for `poll`.
unsafe fn clear<F: Future>(memory: NonNull<u8>) {
    // SAFETY: the caller's promise. Assigning drops the old content in place.
    unsafe { *memory.cast::<Content<F>>().as_mut() = Content::Empty };
}
