// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Submissions, and a guest's bytes that are one: `<vgfence/submit_3d.h>`.

use std::ffi::CStr;
use std::fmt;
use std::io::IoSlice;
use std::os::raw::c_void;
use std::os::unix::io::BorrowedFd;
use std::ptr;

use vgfence_sys as sys;

use crate::context::slice_of;
use crate::device::Limits;
use crate::error::{Error, Result};
use crate::fence::{FenceName, Flags};
use crate::unwind::call;

/// One SUBMIT_3D. Nothing in it need outlive the call that it is passed to.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// `ctx_id` and `ring` also say where it runs.
    pub fence: FenceName,
    pub flags: Flags,
    /// IDs of fences to wait for, in any order, repeated or not.
    pub in_fences: &'a [u64],
    /// Fences to wait for that are not of this device. Each descriptor polls readable once its
    /// fence has signalled.
    pub in_fence_fds: &'a [BorrowedFd<'a>],
    /// The command stream, in memory that a guest cannot write.
    pub command: &'a [u8],
    /// Comes back with the fence ([`Retired::cookie`](crate::Retired::cookie)).
    pub cookie: usize,
}

impl<'a> Submission<'a> {
    /// Work without a command stream, in-fences or a cookie.
    pub fn new(fence: FenceName, flags: Flags) -> Submission<'a> {
        Submission { fence, flags, in_fences: &[], in_fence_fds: &[], command: &[], cookie: 0 }
    }

    pub(crate) fn raw(&self) -> Result<sys::vgf_submission> {
        let count = |len: usize| u32::try_from(len).map_err(|_| Error::known(sys::E2BIG));
        Ok(sys::vgf_submission {
            fence: self.fence.raw(),
            flags: self.flags.0,
            num_in_fences: count(self.in_fences.len())?,
            in_fences: self.in_fences.as_ptr(),
            // A BorrowedFd is represented as what it borrows.
            in_fence_fds: self.in_fence_fds.as_ptr().cast(),
            num_in_fence_fds: count(self.in_fence_fds.len())?,
            command: self.command.as_ptr().cast(),
            size: self.command.len(),
            cookie: self.cookie as *mut c_void,
            ..sys::vgf_submission::default()
        })
    }
}

/// A decoded SUBMIT_3D request. It has a copy of everything.
pub struct Submit3d {
    raw: sys::vgf_submit_3d,
}

// SAFETY: it owns its memory, and nothing writes to it.
unsafe impl Send for Submit3d {}
unsafe impl Sync for Submit3d {}

/// A request that is no SUBMIT_3D, or a bad one.
#[derive(Clone, Debug)]
pub struct NotDecoded {
    pub error: Error,
    pub reason: &'static str,
    /// The request's fence, if it is known: for
    /// [`Device::refuse_fence`](crate::Device::refuse_fence).
    pub fence: Option<(FenceName, Flags)>,
}

impl From<NotDecoded> for Error {
    fn from(not_decoded: NotDecoded) -> Error {
        not_decoded.error
    }
}

impl Submit3d {
    /// Decodes a SUBMIT_3D request, in any pieces. `fence_passing`: whether the feature was
    /// negotiated.
    ///
    /// # Errors
    /// `Malformed`: shorter than it says; `InvalidInput`: no SUBMIT_3D, a command stream that is no
    /// multiple of 4, a ring of 64 or above; `TooBig`; `OutOfMemory`.
    pub fn decode(
        request: &[IoSlice<'_>],
        fence_passing: bool,
        limits: &Limits,
    ) -> std::result::Result<Submit3d, NotDecoded> {
        let limits = limits.raw();
        let mut raw = sys::vgf_submit_3d::default();
        let mut reason = ptr::null();
        // SAFETY: an IoSlice is represented as an iovec.
        let ret = call(|| unsafe {
            let iov = request.as_ptr().cast();
            let (limits, count) = (&limits, request.len());
            sys::vgf_submit_3d_decode(iov, count, fence_passing, limits, &mut raw, &mut reason)
        });
        Error::check(ret).map(|_| Submit3d { raw }).map_err(|error| {
            let flags = Flags(raw.submission.flags);
            let fence = (FenceName::from_raw(raw.submission.fence), flags);
            // SAFETY: null, or a static string.
            let reason = unsafe { (!reason.is_null()).then(|| CStr::from_ptr(reason)) };
            NotDecoded {
                error,
                reason: reason.and_then(|reason| reason.to_str().ok()).unwrap_or(""),
                fence: Some(fence).filter(|_| flags.contains(Flags::FENCED)),
            }
        })
    }

    pub fn submission(&self) -> Submission<'_> {
        let raw = &self.raw.submission;
        // SAFETY: they are in the request's own storage, which stays as long as it does.
        let (in_fences, command) = unsafe {
            let in_fences = slice_of(raw.in_fences, raw.num_in_fences as usize);
            (in_fences, slice_of(raw.command.cast(), raw.size))
        };
        let new = Submission::new(FenceName::from_raw(raw.fence), Flags(raw.flags));
        Submission { in_fences, command, ..new }
    }
}

impl Drop for Submit3d {
    fn drop(&mut self) {
        // SAFETY: decoded, and finished once.
        unsafe { sys::vgf_submit_3d_finish(&mut self.raw) };
    }
}

impl fmt::Debug for Submit3d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Submit3d").field(&self.submission()).finish()
    }
}
