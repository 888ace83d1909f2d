// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Context drivers: `<vgfence/context_driver.h>`.

use std::cell::RefCell;
use std::mem;
use std::os::raw::{c_int, c_void};
use std::os::unix::io::{BorrowedFd, IntoRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use vgfence_sys as sys;

use crate::error::{Error, Result};
use crate::fence::{FenceByCall, FenceName, Flags, Promise};
use crate::gate::Gate;
use crate::unwind::{callback, inside};

/// The way in which a submission waited, or can wait, for its in-fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Every in-fence was done.
    None,
    /// The driver gets them, and the GPU driver waits.
    Driver,
    /// The driver gets them, and the GL server waits.
    Gl,
    /// vgfence holds the work back until the last of them has retired.
    Host,
}

/// Runs a context's command streams. Dropped after [`destroy`](Driver::destroy).
///
/// Calls for one ring come one at a time and in the order of submission; if rings are not
/// independent, calls for one context do. They come from any thread that submits, or dispatches. So
/// a driver is `Send` and `Sync`:
///
/// ```compile_fail,E0277
/// struct Counting(std::cell::Cell<u32>);
///
/// impl vgfence::Driver for Counting {
///     fn submit(&self, _: &vgfence::Job<'_>) -> vgfence::Result<vgfence::OutFence> {
///         self.0.set(self.0.get() + 1);
///         Ok(vgfence::OutFence::Done)
///     }
/// }
/// ```
///
/// A call must not block: it would delay the guest's next request, or other fences.
pub trait Driver: Send + Sync + 'static {
    /// [`Wait::Driver`] or [`Wait::Gl`]: submit takes in-fences as descriptors, and those of its
    /// family. Else it takes none, and vgfence holds the work back. Asked once, when the context is
    /// made.
    fn wait(&self) -> Wait {
        Wait::Host
    }

    /// Whether work on one ring does not keep its place among that of other rings. Asked once.
    fn independent_rings(&self) -> bool {
        false
    }

    /// Contexts with the same number, which is not 0, know each other's fences by name, because one
    /// scheduler has the work of all of them: see [`Job::family_fences`]. Asked once.
    fn family(&self) -> usize {
        0
    }

    /// Runs a job. After an error nothing must have run, and the job's fence retires with it in its
    /// order. After EMFILE, ENFILE, ENOMEM or EOPNOTSUPP of a job with in-fences vgfence waits for
    /// these, and submits the job again without them.
    ///
    /// If this panics, the job's fence retires with EIO, and so do those of all later jobs of the
    /// context, for which the driver is not called.
    fn submit(&self, job: &Job<'_>) -> Result<OutFence>;

    /// The context is gone; no job follows. If `cancelled`, nobody is interested in those that run.
    fn destroy(&self, cancelled: bool) {
        let _ = cancelled;
    }
}

/// The out-fence of a job.
#[derive(Debug)]
pub enum OutFence {
    /// The work is done.
    Done,
    /// Polls readable once the work is done.
    Fd(OwnedFd),
    /// What [`Job::fence_by_call`] returned will signal it. Without that it is an error.
    ByCall,
}

/// One submission, as a driver gets it. Nothing of it outlives the call:
///
/// ```compile_fail
/// struct Keeping(std::sync::Mutex<Vec<&'static [u8]>>);
///
/// impl vgfence::Driver for Keeping {
///     fn submit(&self, job: &vgfence::Job<'_>) -> vgfence::Result<vgfence::OutFence> {
///         self.0.lock().unwrap().push(job.command());
///         Ok(vgfence::OutFence::Done)
///     }
/// }
/// ```
pub struct Job<'a> {
    raw: &'a sys::vgf_job,
    gate: &'a Arc<Gate>,
    promise: RefCell<Option<Promise>>,
}

/// One in-fence that a driver gets.
#[derive(Clone, Copy, Debug)]
pub struct InFence<'a> {
    /// `None` for one that the VMM gave as a descriptor.
    pub fence_id: Option<u64>,
    pub fd: BorrowedFd<'a>,
}

impl<'a> Job<'a> {
    /// The fence's ID means something only with [`Flags::FENCED`].
    pub fn name(&self) -> FenceName {
        FenceName::from_raw(self.raw.fence)
    }

    pub fn flags(&self) -> Flags {
        Flags(self.raw.flags)
    }

    /// How it waited.
    pub fn wait(&self) -> Wait {
        match self.raw.wait {
            sys::VGF_WAIT_DRIVER => Wait::Driver,
            sys::VGF_WAIT_GL => Wait::Gl,
            sys::VGF_WAIT_HOST => Wait::Host,
            _ => Wait::None,
        }
    }

    pub fn command(&self) -> &'a [u8] {
        // SAFETY: the library lends it for the call, which 'a is.
        unsafe { slice_of(self.raw.command.cast(), self.raw.size) }
    }

    /// Those that the driver has to wait for.
    pub fn in_fences(&self) -> impl Iterator<Item = InFence<'a>> + 'a {
        // SAFETY: as above.
        let raw = unsafe { slice_of(self.raw.in_fences, self.raw.num_in_fences as usize) };
        raw.iter().filter(|in_fence| in_fence.fd >= 0).map(|in_fence| InFence {
            fence_id: Some(in_fence.fence_id).filter(|&id| id != sys::VGF_NO_FENCE_ID),
            // SAFETY: each is an open descriptor, which the library lends.
            fd: unsafe { BorrowedFd::borrow_raw(in_fence.fd) },
        })
    }

    /// More of these: fences of its family that have no descriptor, as they are signalled by call.
    /// One that the driver does not know (any more) is done.
    pub fn family_fences(&self) -> impl Iterator<Item = FenceName> + 'a {
        let count = self.raw.num_family_fences as usize;
        // SAFETY: as above.
        let raw = unsafe { slice_of(self.raw.family_fences, count) };
        raw.iter().map(|&name| FenceName::from_raw(name))
    }

    /// The job's fence, for a driver that answers [`OutFence::ByCall`]. Once submit has returned
    /// anything else, it signals nothing; nor does that of a job without [`Flags::FENCED`].
    pub fn fence_by_call(&self) -> FenceByCall {
        let gate = self.flags().contains(Flags::FENCED).then(|| self.gate.clone());
        let mut promise = self.promise.borrow_mut();
        promise.get_or_insert_with(Promise::new).fence(gate, self.name())
    }
}

/// # Safety
/// As `slice::from_raw_parts`, but `data` may be null with no elements.
pub(crate) unsafe fn slice_of<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if len == 0 {
        return &[];
    }
    slice::from_raw_parts(data, len)
}

/// A driver in the library's hands.
pub(crate) struct Context {
    driver: Box<dyn Driver>,
    gate: Arc<Gate>,
    device: usize, // for inside()
    panicked: AtomicBool,
}

impl Context {
    /// What `vgf_context_create` takes. If that fails, the pointer is for [`Context::give_up`].
    pub(crate) fn into_raw(
        driver: Box<dyn Driver>,
        gate: Arc<Gate>,
        device: usize,
    ) -> (sys::vgf_driver, *mut c_void) {
        let raw = sys::vgf_driver {
            size: mem::size_of::<sys::vgf_driver>(),
            wait: match driver.wait() {
                Wait::None => sys::VGF_WAIT_NONE,
                Wait::Driver => sys::VGF_WAIT_DRIVER,
                Wait::Gl => sys::VGF_WAIT_GL,
                Wait::Host => sys::VGF_WAIT_HOST,
            },
            independent_rings: driver.independent_rings(),
            submit: Some(submit),
            destroy: Some(destroy),
            family: driver.family() as *const c_void,
        };
        let context = Context { driver, gate, device, panicked: AtomicBool::new(false) };
        (raw, Box::into_raw(Box::new(context)).cast())
    }

    /// # Safety
    /// `data` is of `into_raw`, and nobody else has it.
    pub(crate) unsafe fn give_up(data: *mut c_void) {
        drop(Box::<Context>::from_raw(data.cast()));
    }

    fn run(&self, job: &Job<'_>) -> Result<OutFence> {
        if self.panicked.load(Ordering::Acquire) {
            return Err(Error::known(sys::EIO));
        }
        let run = AssertUnwindSafe(|| self.driver.submit(job));
        catch_unwind(run).unwrap_or_else(|payload| {
            self.panicked.store(true, Ordering::Release);
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                mem::forget(again);
            }
            Err(Error::known(sys::EIO))
        })
    }
}

/// What C gets: the descriptor or constant, or an error.
fn settle(job: &Job<'_>, answer: Result<OutFence>) -> Result<c_int> {
    let promise = job.promise.borrow().clone();
    if let Ok(OutFence::ByCall) = answer {
        let unfenced = !job.flags().contains(Flags::FENCED);
        return match promise {
            Some(promise) if promise.keep() => Ok(sys::VGF_FENCE_BY_CALL),
            Some(_) => Err(Error::known(sys::EIO)),
            None if unfenced => Ok(sys::VGF_FENCE_BY_CALL),
            None => Err(Error::known(sys::EINVAL)),
        };
    }
    if let Some(promise) = promise {
        promise.void();
    }
    Ok(match answer? {
        OutFence::Fd(fd) => fd.into_raw_fd(),
        OutFence::Done | OutFence::ByCall => sys::VGF_FENCE_DONE,
    })
}

unsafe extern "C" fn submit(data: *mut c_void, job: *const sys::vgf_job, out: *mut c_int) -> c_int {
    let context = &*data.cast::<Context>();
    let job = Job { raw: &*job, gate: &context.gate, promise: RefCell::new(None) };
    let answer = inside(context.device, || context.run(&job));
    match settle(&job, answer) {
        Ok(fence) => {
            *out = fence;
            0
        }
        Err(error) => error.negative(),
    }
}

unsafe extern "C" fn destroy(data: *mut c_void, cancelled: bool) {
    let context = Box::from_raw(data.cast::<Context>());
    callback(move || {
        inside(context.device, move || {
            context.driver.destroy(cancelled);
            drop(context);
        });
    });
}
