// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! What signals fences may outlive the device, or a reset, after which IDs start again. A gate is
//! shared by all of it, and is closed before.

use std::ptr::NonNull;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vgfence_sys as sys;

struct State {
    device: Option<NonNull<sys::vgf_device>>,
    inside: usize,
}

/// Not a read-write lock: whoever is inside may come in again, also if somebody waits to close.
pub(crate) struct Gate {
    state: Mutex<State>,
    left: Condvar,
}

// SAFETY: the library's functions for fences may be called from any thread.
unsafe impl Send for Gate {}
unsafe impl Sync for Gate {}

struct Pass<'a>(&'a Gate);

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.left.notify_all();
    }
}

impl Gate {
    pub(crate) fn new(device: NonNull<sys::vgf_device>) -> Gate {
        let state = State { device: Some(device), inside: 0 };
        Gate { state: Mutex::new(state), left: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `f` with the device, which stays meanwhile; or not, if the gate is closed.
    pub(crate) fn with<R>(&self, f: impl FnOnce(*mut sys::vgf_device) -> R) -> Option<R> {
        let device = {
            let mut state = self.lock();
            let device = state.device?;
            state.inside += 1;
            device
        };
        let _pass = Pass(self);
        Some(f(device.as_ptr()))
    }

    /// Waits until nobody is inside any more. Not from inside.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.device = None;
        while state.inside > 0 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
