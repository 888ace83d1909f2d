// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Host-side fences for virtual GPUs: libvgfence in safe Rust.
//!
//! A VMM makes a [`Device`], gives each of the guest's contexts a [`Driver`], and hands over what
//! the guest submits. The library holds work back until its in-fences have retired, and retires
//! fences through [`Callbacks`], in the order of their timelines.
//!
//! ```
//! use vgfence::{Device, Driver, FenceName, Flags, Job, Options, OutFence, Ring, Submission};
//!
//! struct Gpu;
//!
//! impl Driver for Gpu {
//!     fn submit(&self, job: &Job<'_>) -> vgfence::Result<OutFence> {
//!         println!("{} bytes run", job.command().len());
//!         Ok(OutFence::Done)
//!     }
//! }
//!
//! # fn main() -> vgfence::Result<()> {
//! let retire = |retired: &vgfence::Retired| println!("answer {:?}", retired.fence);
//! let device = Device::new(retire, &Options::default())?;
//! device.create_context(1, Gpu)?;
//! let fence = FenceName { fence_id: 1, ctx_id: 1, ring: Ring::Index(0) };
//! let work = Submission { command: &[0; 8], ..Submission::new(fence, Flags::FENCED) };
//! assert!(device.submit(&work).will_retire);
//! // When device.poll_fd() is readable:
//! assert_eq!(device.dispatch(None)?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! The [headers](vgfence_sys) say at length what is promised. What differs here:
//!
//! - Descriptors are [`OwnedFd`](std::os::unix::io::OwnedFd) or
//!   [`BorrowedFd`](std::os::unix::io::BorrowedFd). One that is not taken comes back with the
//!   error.
//! - A fence that is signalled by call is a [`FenceByCall`], which signals it once. It may outlive
//!   the device, and a reset: it signals nothing then.
//! - [`Device::reset`], and dropping the device, need it for themselves. In C they may also come
//!   from inside a callback; here the device is dropped when the call that it came in returns.
//! - A panic in a callback or a deferred function goes on in the thread's own call into the
//!   library, when that returns; in the library's own thread the process is aborted. One in a
//!   driver's submit is an error of the job.
//!
//! Not here are `signal_enter` and `signal_leave`, so fences retire where the device dispatches;
//! `vgf_device_trace`; and what a held fence of [`Device::pending`] waits for, which
//! [`Device::dump`] says. DRM's sync objects and the virglrenderer plugin are in [`vgfence_sys`],
//! as functions of C.

mod context;
mod device;
pub mod dma_buf;
mod error;
mod fence;
mod gate;
mod inspect;
mod submission;
pub mod sync_file;
mod unwind;

pub use context::{Driver, InFence, Job, OutFence, Wait};
pub use device::{
    Callbacks, Device, Generation, Limits, LogLevel, Options, Place, Progress, Retired, Stall,
    Submitted,
};
pub use error::{Error, ErrorKind, NotTaken, Result};
pub use fence::{FenceByCall, FenceName, Flags, NotPublished, Ring};
pub use inspect::{Pending, Stats};
pub use submission::{NotDecoded, Submission, Submit3d};

/// The version of the library that is linked.
pub fn version() -> &'static str {
    // SAFETY: a static string.
    let version = unsafe { std::ffi::CStr::from_ptr(vgfence_sys::vgf_version()) };
    version.to_str().unwrap_or("")
}
