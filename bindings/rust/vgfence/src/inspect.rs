// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Statistics, what is pending, all of it as text: `<vgfence/inspect.h>`.

use std::ffi::CStr;
use std::mem;
use std::ptr;
use std::time::Duration;

use vgfence_sys as sys;

use crate::device::{status, Device};
use crate::error::Result;
use crate::fence::FenceName;

/// `struct vgf_stats`, whose header says what each counts.
pub type Stats = sys::vgf_stats;

/// One pending fence.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub fence: FenceName,
    /// Since it was accepted.
    pub age: Duration,
    /// Of one that has signalled and waits for earlier ones.
    pub signalled: Option<Result<()>>,
    /// Its work waits for in-fences, or for its turn behind other work.
    pub held: bool,
    pub has_fd: bool,
}

impl Pending {
    fn from_raw(raw: &sys::vgf_pending) -> Pending {
        Pending {
            fence: FenceName::from_raw(raw.fence),
            age: Duration::from_nanos(raw.age_ns),
            signalled: raw.signalled.then(|| status(raw.status)),
            held: raw.held,
            has_fd: raw.has_fd,
        }
    }
}

/// The list may have grown since it was counted.
fn list(fill: impl Fn(*mut sys::vgf_pending, usize) -> usize) -> Vec<Pending> {
    let mut count = fill(ptr::null_mut(), 0);
    loop {
        let mut pending = vec![sys::vgf_pending::default(); count];
        count = fill(pending.as_mut_ptr(), pending.len());
        if count <= pending.len() {
            return pending[..count].iter().map(Pending::from_raw).collect();
        }
    }
}

impl Device {
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { size: mem::size_of::<Stats>(), ..Stats::default() };
        // SAFETY: as much is written as the size says, which the library knows.
        self.with_raw(|device| unsafe { sys::vgf_device_get_stats(device, &mut stats) });
        stats
    }

    /// The pending fences, timeline by timeline, each in order.
    pub fn pending(&self) -> Vec<Pending> {
        // SAFETY: as many are written as there is room for.
        let fill = |room, count| unsafe {
            self.with_raw(|device| sys::vgf_device_list_pending(device, room, count))
        };
        list(fill)
    }

    /// The same for one context ID.
    pub fn context_pending(&self, ctx_id: u32) -> Vec<Pending> {
        // SAFETY: as above.
        let fill = |room, count| unsafe {
            self.with_raw(|device| sys::vgf_context_list_pending(device, ctx_id, room, count))
        };
        list(fill)
    }

    /// A text for a bug report.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn dump(&self) -> Result<String> {
        let mut text = ptr::null_mut();
        // SAFETY: the text is ours to free.
        self.with_raw(|device| unsafe {
            status(sys::vgf_device_dump(device, &mut text))?;
            let dump = CStr::from_ptr(text).to_string_lossy().into_owned();
            sys::free(text.cast());
            Ok(dump)
        })
    }
}
