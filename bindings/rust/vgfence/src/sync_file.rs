// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! One descriptor that stands for a fence: `<vgfence/sync_file.h>`. A kernel's sync file, or
//! anything else that polls readable when its fence signals and stays so.

use std::mem;
use std::os::raw::c_int;
use std::os::unix::io::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use vgfence_sys as sys;

use crate::device::{status, text};
use crate::error::{Error, Result};

/// Whether the fence has signalled, without waiting.
///
/// # Errors
/// `Io` for a descriptor that will never signal; `OutOfMemory`.
pub fn poll(fence: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: the descriptor is lent.
    Error::check(unsafe { sys::vgf_sync_file_poll(fence.as_raw_fd()) }).map(|ret| ret == 1)
}

/// Waits until the fence signals or CLOCK_MONOTONIC reaches `deadline_ns`; `i64::MAX` waits without
/// end, 0 not at all.
///
/// # Errors
/// `TimedOut` at the deadline; those of [`poll`].
pub fn wait(fence: BorrowedFd<'_>, deadline_ns: i64) -> Result<()> {
    // SAFETY: the descriptor is lent.
    status(unsafe { sys::vgf_sync_file_wait(fence.as_raw_fd(), deadline_ns) })
}

/// Whether the fence has signalled; the error is that which a fence in the file ended with, or one
/// of [`poll`].
pub fn signalled(fence: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: the descriptor is lent.
    Error::check(unsafe { sys::vgf_sync_file_status(fence.as_raw_fd()) }).map(|ret| ret == 1)
}

/// What the kernel says about one fence in a sync file.
#[derive(Clone, Debug)]
pub struct Fence {
    pub driver: String,
    pub timeline: String,
    /// Whether it has signalled, or its error.
    pub status: Result<bool>,
    /// CLOCK_MONOTONIC, when it signalled; 0 while pending.
    pub timestamp_ns: u64,
}

/// The fences in a sync file.
///
/// # Errors
/// `Unsupported` for a descriptor that is no sync file; `OutOfMemory`.
pub fn info(fence: BorrowedFd<'_>) -> Result<Vec<Fence>> {
    let mut count = 1;
    loop {
        let mut raw = vec![sys::vgf_sync_file_fence::default(); count];
        // SAFETY: as many are written as there is room for.
        count = Error::check(unsafe {
            sys::vgf_sync_file_info(fence.as_raw_fd(), raw.as_mut_ptr(), raw.len())
        })?;
        if count <= raw.len() {
            raw.truncate(count);
            return Ok(raw.iter().map(Fence::from_raw).collect());
        }
    }
}

impl Fence {
    fn from_raw(raw: &sys::vgf_sync_file_fence) -> Fence {
        Fence {
            driver: text(&raw.driver),
            timeline: text(&raw.timeline),
            status: Error::check(raw.status).map(|ret| ret == 1),
            timestamp_ns: raw.timestamp_ns,
        }
    }
}

/// The name of the sync file itself, for messages.
///
/// # Errors
/// `Unsupported` for a descriptor that is no sync file.
pub fn name(fence: BorrowedFd<'_>) -> Result<String> {
    let mut name = [0; sys::VGF_SYNC_FILE_NAME as usize];
    // SAFETY: there is room for a name.
    status(unsafe { sys::vgf_sync_file_name(fence.as_raw_fd(), name.as_mut_ptr()) })?;
    Ok(text(&name))
}

/// Tells the kernel by when the fence is wanted: a hint for the GPU's clock.
///
/// # Errors
/// `Unsupported`: an older kernel, or no sync file. Nothing is lost.
pub fn set_deadline(fence: BorrowedFd<'_>, deadline_ns: u64) -> Result<()> {
    // SAFETY: the descriptor is lent.
    status(unsafe { sys::vgf_sync_file_set_deadline(fence.as_raw_fd(), deadline_ns) })
}

/// One descriptor that signals once all have.
///
/// # Errors
/// `InvalidInput` without any; `Unsupported` if two or more are pending and one of them is no sync
/// file; `NoDescriptor`; those of [`poll`].
pub fn merge(fences: &[BorrowedFd<'_>]) -> Result<OwnedFd> {
    // A BorrowedFd is represented as what it borrows.
    const _: () = assert!(mem::size_of::<BorrowedFd<'_>>() == mem::size_of::<c_int>());
    // SAFETY: the descriptors are lent, the new one is ours.
    unsafe {
        let fd = Error::check(sys::vgf_sync_file_merge(fences.as_ptr().cast(), fences.len()))?;
        Ok(OwnedFd::from_raw_fd(fd as c_int))
    }
}
