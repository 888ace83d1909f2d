// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Names of fences, and fences that are signalled by a call: `<vgfence/fence.h>`.

use std::fmt;
use std::ops::BitOr;
use std::os::raw::c_int;
use std::os::unix::io::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;

use vgfence_sys as sys;

use crate::error::{Error, NotTaken, Result};
use crate::gate::Gate;
use crate::unwind::call;

/// A ring of a context, or the device's global timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ring {
    /// The guest did not set VIRTIO_GPU_FLAG_INFO_RING_IDX.
    Global,
    /// 0 to 63.
    Index(u8),
}

impl Ring {
    pub(crate) fn raw(self) -> i32 {
        match self {
            Ring::Global => sys::VGF_RING_GLOBAL,
            Ring::Index(index) => i32::from(index),
        }
    }

    fn from_raw(ring: i32) -> Ring {
        u8::try_from(ring).map_or(Ring::Global, Ring::Index)
    }
}

/// The name of a fence. A timeline is one (context, ring), or the global one; its IDs grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FenceName {
    pub fence_id: u64,
    /// With [`Ring::Global`]: the context whose work it is, 0 for none.
    pub ctx_id: u32,
    pub ring: Ring,
}

impl FenceName {
    pub(crate) fn raw(self) -> sys::vgf_fence_name {
        let FenceName { fence_id, ctx_id, ring } = self;
        sys::vgf_fence_name { fence_id, ctx_id, ring: ring.raw() }
    }

    pub(crate) fn from_raw(name: sys::vgf_fence_name) -> FenceName {
        let sys::vgf_fence_name { fence_id, ctx_id, ring } = name;
        FenceName { fence_id, ctx_id, ring: Ring::from_raw(ring) }
    }
}

/// What a submission or a fence is, besides its name. They are joined with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub(crate) u32);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// The submission has an out-fence (VIRTIO_GPU_FLAG_FENCE).
    pub const FENCED: Flags = Flags(sys::VGF_FENCED);
    /// Other contexts may name it as an in-fence.
    pub const SHAREABLE: Flags = Flags(sys::VGF_SHAREABLE);
    /// It needs no callback if the next one of its timeline retires with it.
    pub const MERGEABLE: Flags = Flags(sys::VGF_MERGEABLE);
    /// It may take as long as it likes, and is never reported as stalled.
    pub const PATIENT: Flags = Flags(sys::VGF_PATIENT);

    pub fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A fence that has no descriptor: whoever has this signals it, from any thread.
///
/// If it is dropped instead, by a panic for example, the fence retires with EIO: no fence is lost.
/// Once the device has been reset or is gone, there is nothing to signal any more.
///
/// It knows its fence by name. If that was given up on
/// ([`Device::cancel_fence`](crate::Device::cancel_fence), `cancel_timeline` or `cancel_context`),
/// signal or drop this, which does nothing then, before the ID of the context is used again: the
/// new one may have a fence of the same name, which this would signal.
///
/// It is one of one device, but does not keep that alive, nor can it be copied:
///
/// ```compile_fail,E0382
/// fn twice(fence: vgfence::FenceByCall) {
///     fence.signal(Ok(())).unwrap();
///     fence.signal(Ok(())).unwrap();
/// }
/// ```
#[must_use = "the fence retires with EIO if this is dropped"]
pub struct FenceByCall {
    gate: Option<Arc<Gate>>, // None: there is nothing to signal
    name: FenceName,
    state: Arc<AtomicU8>,
}

// Whether the driver's submit that the fence is of has returned, and what.
const OPEN: u8 = 0;
const BY_CALL: u8 = 1; // the fence waits for this
const OTHERWISE: u8 = 2; // an error, or another fence: nothing waits for this
const DROPPED: u8 = 3; // before submit has returned

/// A driver's submit, as those that were promised its fence see it.
#[derive(Clone)]
pub(crate) struct Promise(Arc<AtomicU8>);

impl Promise {
    pub(crate) fn new() -> Promise {
        Promise(Arc::new(AtomicU8::new(OPEN)))
    }

    /// Submit returns that the fence is signalled by a call. False if that cannot come any more.
    pub(crate) fn keep(&self) -> bool {
        let kept = self.0.compare_exchange(OPEN, BY_CALL, Ordering::AcqRel, Ordering::Acquire);
        kept.is_ok()
    }

    /// Submit returns anything else.
    pub(crate) fn void(&self) {
        self.0.store(OTHERWISE, Ordering::Release);
    }

    /// Without a gate the job has no fence.
    pub(crate) fn fence(&self, gate: Option<Arc<Gate>>, name: FenceName) -> FenceByCall {
        FenceByCall { gate, name, state: self.0.clone() }
    }
}

/// The descriptor and the fence come back if a fence could not be published. With
/// [`ErrorKind::NoDescriptor`](crate::ErrorKind::NoDescriptor) it may be signalled by call, or
/// published when another one has retired.
#[derive(Debug)]
pub struct NotPublished {
    pub error: Error,
    pub fd: OwnedFd,
    pub fence: FenceByCall,
}

impl FenceByCall {
    pub(crate) fn new(gate: &Arc<Gate>, name: FenceName) -> FenceByCall {
        let state = Arc::new(AtomicU8::new(BY_CALL));
        FenceByCall { gate: Some(gate.clone()), name, state }
    }

    pub fn name(&self) -> FenceName {
        self.name
    }

    /// The name may be that of another fence by now: of the job that runs again, for example.
    fn is_void(&self) -> bool {
        self.state.load(Ordering::Acquire) == OTHERWISE
    }

    /// `vgf_fence_signal`: the work is done, or has failed. Runs no driver, and makes no callback
    /// but log messages.
    ///
    /// # Errors
    /// `NotFound`: it has retired, or the driver's submit has returned something else than
    /// [`OutFence::ByCall`](crate::OutFence::ByCall); `AlreadySignalled`, or cancelled;
    /// `Cancelled`: the device was reset or is gone.
    pub fn signal(mut self, status: Result<()>) -> Result<()> {
        match self.gate.take() {
            None => Ok(()),
            Some(_) if self.is_void() => Err(Error::known(sys::ENOENT)),
            Some(gate) => signal(&gate, self.name, status),
        }
    }

    /// `vgf_fence_publish_take`: gives the fence a descriptor, which signals it from then on.
    ///
    /// # Errors
    /// As [`signal`](FenceByCall::signal), and `AlreadyExists`: it has a descriptor;
    /// `BadDescriptor` or `NotPermitted` for one that cannot be polled; `NoDescriptor` at
    /// `max_fds` or `max_context_fds`.
    pub fn publish(mut self, fd: OwnedFd) -> std::result::Result<(), Box<NotPublished>> {
        let gate = match &self.gate {
            Some(gate) => gate.clone(),
            None => return Ok(()),
        };
        if self.is_void() {
            let error = Error::known(sys::ENOENT);
            return Err(Box::new(NotPublished { error, fd, fence: self }));
        }
        let name = self.name.raw();
        let mut fd = Some(fd);
        let taken = gate.with(|device| {
            // SAFETY: the device stays meanwhile.
            let take = |fd| unsafe { sys::vgf_fence_publish_take(device, &name, fd) };
            call(|| {
                let taken = fd.take().map(|fd| hand_over(fd, take))?;
                if taken.is_ok() {
                    self.gate = None; // here: a log message may panic
                }
                Some(taken)
            })
        });
        let NotTaken { error, fd } = match (taken.flatten(), fd) {
            (Some(Ok(())), _) => return Ok(()),
            (Some(Err(not_taken)), _) => not_taken,
            (None, Some(fd)) => NotTaken { error: Error::known(sys::ECANCELED), fd },
            (None, None) => unreachable!("the descriptor was handed over"),
        };
        Err(Box::new(NotPublished { error, fd, fence: self }))
    }
}

/// Calls a function that owns the descriptor if it succeeds.
pub(crate) fn hand_over(
    fd: OwnedFd,
    take: impl FnOnce(RawFd) -> c_int,
) -> std::result::Result<(), NotTaken> {
    match Error::check(take(fd.as_raw_fd())) {
        Ok(_) => {
            let _ = fd.into_raw_fd();
            Ok(())
        }
        Err(error) => Err(NotTaken { error, fd }),
    }
}

fn signal(gate: &Gate, name: FenceName, status: Result<()>) -> Result<()> {
    let status = status.map_or_else(Error::negative, |()| 0);
    let ret = gate.with(|device| {
        // SAFETY: the device stays meanwhile.
        call(|| unsafe { sys::vgf_fence_signal(device, &name.raw(), status) })
    });
    Error::check(ret.unwrap_or(-(sys::ECANCELED as i32))).map(|_| ())
}

impl Drop for FenceByCall {
    fn drop(&mut self) {
        let gate = match self.gate.take() {
            Some(gate) => gate,
            None => return,
        };
        let state = &self.state;
        let open = state.compare_exchange(OPEN, DROPPED, Ordering::AcqRel, Ordering::Acquire);
        if open == Err(BY_CALL) {
            let _ = signal(&gate, self.name, Err(Error::known(sys::EIO)));
        }
    }
}

impl fmt::Debug for FenceByCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FenceByCall").field("name", &self.name).finish()
    }
}
