// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! No panic crosses the border to C. One in a callback is kept until the call into the library
//! during which it happened returns, and goes on from there.

// The clippy of Rust 1.63 finds that in thread_local!.
#![allow(clippy::declare_interior_mutable_const)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem::{self, ManuallyDrop};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::process::abort;
use std::ptr;
use std::thread;

type Payload = Box<dyn Any + Send>;

// None has a destructor, so they are there to the end of the thread: a device in a thread_local of
// the user's may be dropped last of all.
thread_local! {
    /// How many calls into the library this thread is in, one inside the other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Until the call during which it happened returns.
    static PANIC: ManuallyDrop<RefCell<Option<Payload>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
    /// The innermost.
    static INSIDE: Cell<*const Inside> = const { Cell::new(ptr::null()) };
}

struct InCall;

impl InCall {
    fn new() -> InCall {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        InCall
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Calls the library. What `f` returns must own all that the library gave: it is dropped if the
/// panic of a callback goes on.
pub(crate) fn call<R>(f: impl FnOnce() -> R) -> R {
    let result = {
        let _in_call = InCall::new();
        f()
    };
    let panic = PANIC.with(|panic| panic.borrow_mut().take());
    match panic {
        Some(payload) if !thread::panicking() => resume_unwind(payload),
        // As in callback(): dropping it could panic in the middle of a panic.
        Some(payload) => {
            mem::forget(payload);
            result
        }
        None => result,
    }
}

/// What the library calls. Without a call of ours in this thread there is nowhere for a panic to go
/// on: it is the library's own thread.
pub(crate) fn callback(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        if DEPTH.with(Cell::get) == 0 {
            eprintln!("vgfence: a callback has panicked in the library's own thread");
            abort();
        }
        PANIC.with(|panic| match &mut *panic.borrow_mut() {
            // Dropping it here could panic once more, or do what a callback may not.
            Some(_) => mem::forget(payload),
            first => *first = Some(payload),
        });
    }
}

/// A device in whose driver, deferred function or log message this thread is.
struct Inside {
    device: usize,
    outer: *const Inside,
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|innermost| innermost.set(self.outer));
    }
}

/// Calls `f` as a driver, a deferred function or a log message of this device, which may neither
/// reset nor destroy it. What `f` owns may not either, and is dropped inside, too.
pub(crate) fn inside<R>(device: usize, f: impl FnOnce() -> R) -> R {
    let inside = Inside { device, outer: INSIDE.with(Cell::get) };
    INSIDE.with(|innermost| innermost.set(&inside));
    f()
}

pub(crate) fn is_inside(device: usize) -> bool {
    let mut next = INSIDE.with(Cell::get);
    // SAFETY: each is a local variable of a call of inside() that has not returned.
    while let Some(inside) = unsafe { next.as_ref() } {
        if inside.device == device {
            return true;
        }
        next = inside.outer;
    }
    false
}
