// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! The device, its options and what it calls: `<vgfence/vgfence.h>`.

use std::ffi::CStr;
use std::fmt;
use std::mem;
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::io::{BorrowedFd, FromRawFd, OwnedFd};
use std::process::abort;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use vgfence_sys as sys;

use crate::context::{Context, Driver};
use crate::dma_buf::Access;
use crate::error::{Error, NotTaken, Result};
use crate::fence::{hand_over, FenceByCall, FenceName, Flags, Ring};
use crate::gate::Gate;
use crate::submission::Submission;
use crate::unwind::{call, callback, inside, is_inside};

// ---- What a device calls -------------------------------------------------------------------

/// A fence that has retired.
#[derive(Clone, Copy, Debug)]
pub struct Retired {
    pub fence: FenceName,
    /// The error of work that failed, was refused or cancelled.
    pub status: Result<()>,
    /// [`Submission::cookie`], or that of the function that made the fence.
    pub cookie: usize,
}

/// A fence that has been the oldest of its timeline for longer than [`Options::stall`].
#[derive(Clone, Debug)]
pub struct Stall<'a> {
    pub fence: FenceName,
    /// Since it became the oldest of its timeline.
    pub age: Duration,
    /// Its work still waits for in-fences.
    pub held: bool,
    /// What does not signal is one of its `in_fence_fds`, and `fence_fd` is that.
    pub imported: bool,
    pub fence_fd: Option<BorrowedFd<'a>>,
    /// Names from the sync file, or empty.
    pub driver: String,
    pub timeline: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something of the host failed.
    Error,
    /// A guest did wrong, or a fence is stalled.
    Warning,
    Debug,
}

/// What a device calls. A closure that takes `&Retired` is one, too.
///
/// Callbacks come from the thread that is in [`Device::dispatch`], `drain` or `reset`, or that
/// drops the device, or from the library's own thread with [`Options::own_thread`]; never from two
/// at once. But log messages may come from inside any function, and so from any thread: therefore
/// `Sync`. A callback may call every function of the device, and then be called again inside.
///
/// ```compile_fail,E0277
/// let counter = std::rc::Rc::new(std::cell::Cell::new(0));
/// let retire = move |_: &vgfence::Retired| counter.set(counter.get() + 1);
/// vgfence::Device::new(retire, &vgfence::Options::default());
/// ```
///
/// A panic goes on where the call into the library returns: in `dispatch`, for example. In the
/// library's own thread there is no such place, so the process is aborted.
pub trait Callbacks: Send + Sync + 'static {
    /// The VMM answers the guest's request with that fence. For the guest this completes all
    /// earlier fences of the timeline, too.
    fn retire(&self, retired: &Retired);

    /// Comes after the last fence of a batch: notify the guest once here.
    fn retire_end(&self) {}

    /// Comes once for a fence.
    fn stalled(&self, stall: &Stall<'_>) {
        let _ = stall;
    }

    /// A message of one line. Must not reset or drop the device.
    fn log(&self, level: LogLevel, message: &str) {
        let _ = (level, message);
    }
}

impl<F: Fn(&Retired) + Send + Sync + 'static> Callbacks for F {
    fn retire(&self, retired: &Retired) {
        self(retired);
    }
}

/// The callbacks, where C finds them. A callback that drops the device keeps them until it returns.
struct Shared {
    callbacks: Box<dyn Callbacks>,
}

impl Shared {
    /// # Safety
    /// `cookie` is of `Arc::into_raw`, and counts.
    unsafe fn keep(cookie: *mut c_void) -> Arc<Shared> {
        let shared = cookie as *const Shared;
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    }
}

pub(crate) fn status(status: c_int) -> Result<()> {
    Error::check(status).map(|_| ())
}

pub(crate) fn text(name: &[c_char]) -> String {
    let bytes: Vec<u8> = name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

unsafe extern "C" fn retire(cookie: *mut c_void, retired: *const sys::vgf_retired) {
    let shared = Shared::keep(cookie);
    let retired = Retired {
        fence: FenceName::from_raw((*retired).fence),
        status: status((*retired).status),
        cookie: (*retired).cookie as usize,
    };
    callback(move || shared.callbacks.retire(&retired));
}

unsafe extern "C" fn retire_end(cookie: *mut c_void) {
    let shared = Shared::keep(cookie);
    callback(move || shared.callbacks.retire_end());
}

unsafe extern "C" fn stalled(cookie: *mut c_void, stall: *const sys::vgf_stall) {
    let shared = Shared::keep(cookie);
    let raw = &*stall;
    callback(move || {
        shared.callbacks.stalled(&Stall {
            fence: FenceName::from_raw(raw.fence),
            age: Duration::from_nanos(raw.age_ns),
            held: raw.held,
            imported: raw.imported,
            fence_fd: (raw.fence_fd >= 0).then(|| BorrowedFd::borrow_raw(raw.fence_fd)),
            driver: text(&raw.driver),
            timeline: text(&raw.timeline),
        })
    });
}

unsafe extern "C" fn log(cookie: *mut c_void, level: sys::vgf_log_level, message: *const c_char) {
    let shared = Shared::keep(cookie);
    let level = match level {
        sys::VGF_LOG_ERROR => LogLevel::Error,
        sys::VGF_LOG_WARNING => LogLevel::Warning,
        _ => LogLevel::Debug,
    };
    callback(move || {
        inside(cookie as usize, || {
            shared.callbacks.log(level, &CStr::from_ptr(message).to_string_lossy());
        });
    });
}

/// A function that is called once, by way of C.
struct Once<F> {
    f: F,
    /// Of a deferred call.
    inside: Option<usize>,
}

impl<F: FnOnce(Result<()>) + Send + 'static> Once<F> {
    /// Calls `register` with a C function and its argument. If it does not take them, the
    /// function is dropped.
    unsafe fn hand_over(
        self,
        taken: fn(c_int) -> bool,
        register: impl FnOnce(OnceFn, *mut c_void) -> c_int,
    ) -> Result<usize> {
        let arg = Box::into_raw(Box::new(self));
        let ret = register(call_once::<F>, arg.cast());
        if !taken(ret) {
            drop(Box::from_raw(arg));
        }
        Error::check(ret)
    }
}

type OnceFn = unsafe extern "C" fn(*mut c_void, c_int);

unsafe extern "C" fn call_once<F: FnOnce(Result<()>)>(arg: *mut c_void, error: c_int) {
    let Once { f, inside: device } = *Box::from_raw(arg.cast::<Once<F>>());
    callback(move || match device {
        Some(device) => inside(device, move || f(status(error))),
        None => f(status(error)),
    });
}

// ---- Options -------------------------------------------------------------------------------

/// The limits of a device bound what a guest can use up. 0 means the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub max_contexts: u32,
    pub max_fences: u32,
    pub max_context_fences: u32,
    pub max_in_fences: u32,
    pub max_command_size: u32,
    pub max_held: u32,
    pub max_held_size: usize,
    pub max_fds: u32,
    pub max_context_fds: u32,
}

impl Limits {
    pub(crate) fn raw(&self) -> sys::vgf_limits {
        sys::vgf_limits {
            max_contexts: self.max_contexts,
            max_fences: self.max_fences,
            max_context_fences: self.max_context_fences,
            max_in_fences: self.max_in_fences,
            max_command_size: self.max_command_size,
            max_held: self.max_held,
            max_held_size: self.max_held_size,
            max_fds: self.max_fds,
            max_context_fds: self.max_context_fds,
            ..sys::vgf_limits::default()
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub limits: Limits,
    /// A fence is reported after this time. `None`: 10 s; `Duration::MAX`: never.
    pub stall: Option<Duration>,
    /// The library dispatches in a thread of its own.
    pub own_thread: bool,
    /// What one round of [`Device::dispatch`] does at most: fences, and calls of drivers. `None`:
    /// 1024; `u32::MAX`: no bound.
    pub budget_items: Option<u32>,
    /// The same in time. `None`: 1 ms; `Duration::MAX`: no bound.
    pub budget: Option<Duration>,
    /// Drivers and deferred functions are called by the thread that dispatches alone.
    pub run_in_dispatch: bool,
    /// An in-fence that would be refused counts as signalled instead, and a warning is logged.
    pub ignore_bad_in_fences: bool,
}

impl Options {
    fn raw(&self) -> sys::vgf_options {
        let nanoseconds = |time: Option<Duration>| {
            // 0 would mean the default.
            time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1))
        };
        sys::vgf_options {
            size: mem::size_of::<sys::vgf_options>(),
            limits: self.limits.raw(),
            stall_ns: nanoseconds(self.stall),
            own_thread: self.own_thread,
            budget_items: self.budget_items.map_or(0, |items| items.max(1)),
            budget_ns: nanoseconds(self.budget),
            run_in_dispatch: self.run_in_dispatch,
            ignore_bad_in_fences: self.ignore_bad_in_fences,
        }
    }
}

// ---- The device ----------------------------------------------------------------------------

/// Whether what was asked for has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// Work that is held back is before it.
    Later,
}

impl Progress {
    fn new(ret: usize) -> Progress {
        if ret == 0 {
            Progress::Done
        } else {
            Progress::Later
        }
    }
}

/// What becomes of a submission.
#[derive(Clone, Copy, Debug)]
#[must_use = "without a fence that will retire the guest is to be answered now"]
pub struct Submitted {
    /// Whether the driver has it, or it is held back; or the error.
    pub result: Result<Progress>,
    /// Whether a callback will retire the out-fence, with an error or without. If so, the VMM
    /// answers the guest at that callback, else at once.
    pub will_retire: bool,
}

/// Which of the contexts with an ID are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The one that is open.
    Open,
    /// Those that were destroyed before.
    Destroyed,
    All,
}

impl Generation {
    fn flags(self, running: bool) -> sys::vgf_cancel_flags {
        let which = match self {
            Generation::Open => sys::VGF_CANCEL_OPEN,
            Generation::Destroyed => sys::VGF_CANCEL_DESTROYED,
            Generation::All => sys::VGF_CANCEL_OPEN | sys::VGF_CANCEL_DESTROYED,
        };
        which | if running { sys::VGF_CANCEL_RUNNING } else { 0 }
    }
}

/// Where a deferred call keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Ring(Ring),
    EveryRing,
}

/// The fences of one virtio-gpu device. Devices share nothing.
///
/// Every function may be called from any thread, and from inside any callback; but `reset` and
/// dropping it need the device for themselves, as the library wants no other call in progress.
/// Where several threads have it (`Arc<Device>`), the last of them drops it.
///
/// ```compile_fail,E0502
/// fn reset_meanwhile(device: &mut vgfence::Device) {
///     let fd = device.poll_fd().unwrap();
///     device.reset().unwrap();
///     drop(fd);
/// }
/// ```
///
/// If it is dropped, everything pending retires before that returns, with ECANCELED if it had not
/// signalled. It must not be dropped from inside a driver's function, or with a driver, nor from
/// inside a deferred function or a log message of it, which it would have to wait for: the process
/// is aborted then. A driver therefore has no `Device`, but [`FenceByCall`]s.
pub struct Device {
    raw: NonNull<sys::vgf_device>,
    cookie: *const Shared,
    /// Of what signals fences that were made since the last reset.
    gate: Arc<Gate>,
}

// SAFETY: the header says so of all functions.
unsafe impl Send for Device {}
unsafe impl Sync for Device {}

fn milliseconds(timeout: Option<Duration>) -> c_int {
    timeout.map_or(-1, |timeout| {
        // Not before the time is over.
        c_int::try_from((timeout.as_nanos() + 999_999) / 1_000_000).unwrap_or(c_int::MAX)
    })
}

impl Device {
    /// `vgf_device_create`.
    ///
    /// # Errors
    /// `OutOfMemory`, `NoDescriptor`, `TryAgain` (no thread).
    pub fn new(callbacks: impl Callbacks, options: &Options) -> Result<Device> {
        let shared = Arc::new(Shared { callbacks: Box::new(callbacks) });
        let raw_callbacks = sys::vgf_callbacks {
            size: mem::size_of::<sys::vgf_callbacks>(),
            retire: Some(retire),
            retire_end: Some(retire_end),
            stalled: Some(stalled),
            log: Some(log),
            ..sys::vgf_callbacks::default()
        };
        let options = options.raw();
        // SAFETY: the callbacks fit the cookie, which counts until the device is gone.
        call(|| unsafe {
            let cookie = Arc::into_raw(shared);
            let mut raw = ptr::null_mut();
            let ret =
                sys::vgf_device_create(&raw_callbacks, cookie as *mut c_void, &options, &mut raw);
            match NonNull::new(raw) {
                Some(raw) => Ok(Device { raw, cookie, gate: Arc::new(Gate::new(raw)) }),
                None => {
                    drop(Arc::from_raw(cookie));
                    Err(Error::check(ret).err().unwrap_or(Error::known(sys::ENOMEM)))
                }
            }
        })
    }

    fn raw(&self) -> *mut sys::vgf_device {
        self.raw.as_ptr()
    }

    fn check(&self, f: impl FnOnce(*mut sys::vgf_device) -> c_int) -> Result<usize> {
        Error::check(call(|| f(self.raw())))
    }

    fn do_it(&self, f: impl FnOnce(*mut sys::vgf_device) -> c_int) -> Result<()> {
        self.check(f).map(|_| ())
    }

    /// For the device itself: not a pointer that anything is read from.
    fn key(&self) -> usize {
        self.cookie as usize
    }

    /// `vgf_device_reset`: for a guest that resets the device. Everything pending retires before
    /// this returns, deferred functions are called with ECANCELED, drivers are destroyed. What
    /// [`FenceByCall`]s are left from before signal nothing any more.
    ///
    /// # Errors
    /// `Deadlock` from inside a driver's function, a deferred function or a log message.
    pub fn reset(&mut self) -> Result<()> {
        if is_inside(self.key()) {
            return Err(Error::known(sys::EDEADLK));
        }
        self.gate.close();
        self.gate = Arc::new(Gate::new(self.raw));
        // SAFETY: the device is alive.
        self.do_it(|device| unsafe { sys::vgf_device_reset(device) })
    }

    /// The descriptor to poll for reading, level-triggered: call [`dispatch`](Device::dispatch)
    /// when it is readable.
    ///
    /// # Errors
    /// `Busy` if the device has its own thread.
    pub fn poll_fd(&self) -> Result<BorrowedFd<'_>> {
        // SAFETY: the device is alive, and so is its descriptor as long as it is.
        unsafe {
            let fd = self.check(|device| sys::vgf_device_get_fd(device))?;
            Ok(BorrowedFd::borrow_raw(fd as c_int))
        }
    }

    /// `vgf_device_dispatch`: takes note of fences that have signalled, runs work that was held
    /// back, retires fences. If there is nothing to do, waits for at most `timeout`; `None` waits
    /// without end. Returns how many fences were retired.
    ///
    /// # Errors
    /// `Busy` if another thread dispatches; `Deadlock` from inside a driver's function or a
    /// deferred one; `Interrupted`.
    pub fn dispatch(&self, timeout: Option<Duration>) -> Result<usize> {
        // SAFETY: the device is alive.
        self.check(|device| unsafe { sys::vgf_device_dispatch(device, milliseconds(timeout)) })
    }

    /// `vgf_device_retire`: the half of [`dispatch`](Device::dispatch) that calls no driver. Does
    /// not wait.
    ///
    /// # Errors
    /// As `dispatch`.
    pub fn retire(&self) -> Result<usize> {
        // SAFETY: the device is alive.
        self.check(|device| unsafe { sys::vgf_device_retire(device) })
    }

    /// `vgf_device_drain`: dispatches until nothing is pending.
    ///
    /// # Errors
    /// `TimedOut`; `Deadlock` from inside a driver's function or a deferred one, or if 16 calls are
    /// inside each other.
    pub fn drain(&self, timeout: Option<Duration>) -> Result<()> {
        // SAFETY: the device is alive.
        self.do_it(|device| unsafe { sys::vgf_device_drain(device, milliseconds(timeout)) })
    }

    // ---- Contexts

    /// `vgf_context_create`. An ID may be used again as soon as it was destroyed.
    ///
    /// # Errors
    /// `AlreadyExists`; `AtLimit` at `max_contexts`; `OutOfMemory`; `Cancelled` during a reset.
    /// The driver is dropped then.
    pub fn create_context(&self, ctx_id: u32, driver: impl Driver) -> Result<()> {
        let (raw, data) = Context::into_raw(Box::new(driver), self.gate.clone(), self.key());
        // SAFETY: the driver's functions fit the data, which is theirs if this succeeds.
        call(|| unsafe {
            let ret = sys::vgf_context_create(self.raw(), ctx_id, &raw, data);
            if ret < 0 {
                Context::give_up(data);
            }
            status(ret)
        })
    }

    /// `vgf_context_destroy`: behind its held work. Does not wait.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn destroy_context(&self, ctx_id: u32) -> Result<Progress> {
        // SAFETY: the device is alive.
        let ret = self.check(|device| unsafe { sys::vgf_context_destroy(device, ctx_id) });
        ret.map(Progress::new)
    }

    /// `vgf_context_cancel`: gives up on what a context holds back; with `running` also on what
    /// its driver has.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn cancel_context(
        &self,
        ctx_id: u32,
        generation: Generation,
        running: bool,
        error: Error,
    ) -> Result<()> {
        self.cancel(ctx_id, generation.flags(running), error)
    }

    /// `vgf_context_cancel` with `VGF_CANCEL_EVERY_CONTEXT`: gives up on what all contexts hold
    /// back; with `running` also on what their drivers have.
    pub fn cancel_every_context(
        &self,
        generation: Generation,
        running: bool,
        error: Error,
    ) -> Result<()> {
        let flags = generation.flags(running) | sys::VGF_CANCEL_EVERY_CONTEXT;
        self.cancel(0, flags, error)
    }

    fn cancel(&self, ctx_id: u32, flags: sys::vgf_cancel_flags, error: Error) -> Result<()> {
        let error = error.negative();
        // SAFETY: the device is alive.
        self.do_it(|device| unsafe { sys::vgf_context_cancel(device, ctx_id, flags, error) })
    }

    /// `vgf_timeline_cancel`: gives up on all fences of a timeline. Returns how many.
    ///
    /// # Errors
    /// `NotFound` if the context or the ring was never used; `InvalidInput` for a ring of 64 or
    /// above.
    pub fn cancel_timeline(&self, ctx_id: u32, ring: Ring, error: Error) -> Result<usize> {
        let (ring, error) = (ring.raw(), error.negative());
        // SAFETY: the device is alive.
        self.check(|device| unsafe { sys::vgf_timeline_cancel(device, ctx_id, ring, error) })
    }

    /// `vgf_context_defer`: calls a function once the driver has got everything that was submitted
    /// before, and before it gets anything that is submitted later. `kept_size`: bytes that the VMM
    /// keeps for it.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a ring of 64 or above; `AtLimit`; `OutOfMemory`. The function
    /// is dropped then.
    pub fn defer(
        &self,
        ctx_id: u32,
        place: Place,
        kept_size: usize,
        f: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<Progress> {
        let ring = match place {
            Place::Ring(ring) => ring.raw(),
            Place::EveryRing => sys::VGF_EVERY_RING,
        };
        let once = Once { f, inside: Some(self.key()) };
        // SAFETY: the function fits its argument, and is called once if it is taken.
        let ret = call(|| unsafe {
            once.hand_over(
                |ret| ret >= 0,
                |fn_, arg| {
                    let fn_ = Some(fn_);
                    let rest = sys::vgf_deferred_call::default();
                    let call = sys::vgf_deferred_call { ctx_id, ring, kept_size, fn_, arg, ..rest };
                    sys::vgf_context_defer(self.raw(), &call)
                },
            )
        });
        ret.map(Progress::new)
    }

    // ---- Submissions and fences

    /// `vgf_submit`: runs work once its in-fences have retired, or gives them to its driver.
    ///
    /// If another thread dispatches, it may make the callback before this returns.
    ///
    /// # Errors
    /// `NotFound`: no such context, or an in-fence that the device has not seen; `NotPermitted`;
    /// `Ambiguous`; `InvalidInput`: a ring out of range, or a fence ID not above the last of its
    /// timeline; `BadDescriptor`, `Io`, `NoDescriptor` for `in_fence_fds`; `TooBig`; `AtLimit`;
    /// `Cancelled` during a reset; `OutOfMemory`; what the driver's submit returned.
    pub fn submit(&self, submission: &Submission<'_>) -> Submitted {
        let mut will_retire = false;
        let result = submission.raw().and_then(|raw| {
            // SAFETY: what the submission borrows stays for the call.
            self.check(|device| unsafe { sys::vgf_submit(device, &raw, &mut will_retire) })
        });
        Submitted { result: result.map(Progress::new), will_retire }
    }

    /// `vgf_fence_create_take`: puts the fence of any other command on its timeline. `fd` polls
    /// readable once the command is done.
    ///
    /// # Errors
    /// `NotFound`: a ring of a context that does not exist; `InvalidInput`, `AtLimit`,
    /// `OutOfMemory` as `submit`; `BadDescriptor`, `NotPermitted` for a descriptor that cannot be
    /// polled; `NoDescriptor` at `max_fds` or `max_context_fds`; `Cancelled` during a reset.
    pub fn create_fence(
        &self,
        name: FenceName,
        flags: Flags,
        cookie: usize,
        fd: OwnedFd,
    ) -> std::result::Result<(), NotTaken> {
        call(|| hand_over(fd, |fd| self.create_take(name, flags, cookie, fd)))
    }

    /// The same for a command that is done. Its callback comes in its turn, from `dispatch`.
    ///
    /// # Errors
    /// As `create_fence`.
    pub fn create_done_fence(&self, name: FenceName, flags: Flags, cookie: usize) -> Result<()> {
        self.do_it(|_| self.create_take(name, flags, cookie, sys::VGF_FENCE_DONE))
    }

    /// The same for a command that is signalled by a call.
    ///
    /// # Errors
    /// As `create_fence`.
    pub fn create_fence_by_call(
        &self,
        name: FenceName,
        flags: Flags,
        cookie: usize,
    ) -> Result<FenceByCall> {
        call(|| {
            status(self.create_take(name, flags, cookie, sys::VGF_FENCE_BY_CALL))?;
            Ok(FenceByCall::new(&self.gate, name))
        })
    }

    fn create_take(&self, name: FenceName, flags: Flags, cookie: usize, fd: c_int) -> c_int {
        let (name, cookie) = (name.raw(), cookie as *mut c_void);
        // SAFETY: the device is alive.
        unsafe { sys::vgf_fence_create_take(self.raw(), &name, flags.0, cookie, fd) }
    }

    /// `vgf_fence_refuse`: puts a fence with an error on its timeline, for a request that fails
    /// before it gets here.
    ///
    /// # Errors
    /// As `create_fence`.
    pub fn refuse_fence(
        &self,
        name: FenceName,
        flags: Flags,
        cookie: usize,
        error: Error,
    ) -> Result<()> {
        let (name, cookie, error) = (name.raw(), cookie as *mut c_void, error.negative());
        // SAFETY: the device is alive.
        self.do_it(|device| unsafe { sys::vgf_fence_refuse(device, &name, flags.0, cookie, error) })
    }

    /// `vgf_fence_cancel`: gives up on a fence, which retires with `error` when its turn comes.
    ///
    /// # Errors
    /// `NotFound`; `AlreadySignalled`; `Busy` while the driver's submit for it runs.
    pub fn cancel_fence(&self, name: FenceName, error: Error) -> Result<()> {
        let (name, error) = (name.raw(), error.negative());
        // SAFETY: the device is alive.
        self.do_it(|device| unsafe { sys::vgf_fence_cancel(device, &name, error) })
    }

    /// `vgf_fence_export`: a descriptor for a fence, or `None` if it has signalled. `ctx_id`: the
    /// context that asks, or 0 for the host, which may name every fence.
    ///
    /// # Errors
    /// `TryAgain`: it has no descriptor yet, and perhaps never; `NotFound`; `NotPermitted`;
    /// `Ambiguous`; `NoDescriptor`.
    pub fn export_fence(&self, ctx_id: u32, fence_id: u64) -> Result<Option<OwnedFd>> {
        let mut fd = -1;
        // SAFETY: the descriptor that it makes is ours.
        call(|| unsafe {
            status(sys::vgf_fence_export(self.raw(), ctx_id, fence_id, &mut fd))?;
            Ok((fd >= 0).then(|| OwnedFd::from_raw_fd(fd)))
        })
    }

    /// `vgf_fence_notify`: calls a function when a fence retires, right after the VMM's callback
    /// for it. Returns false if the fence has signalled and nothing is before it on its timeline:
    /// then the function is dropped.
    ///
    /// # Errors
    /// `NotFound`, `NotPermitted`, `Ambiguous` as `export_fence`; `AtLimit`; `OutOfMemory`.
    pub fn notify(
        &self,
        ctx_id: u32,
        fence_id: u64,
        f: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<bool> {
        let once = Once { f, inside: None };
        // SAFETY: the function fits its argument, and is called once if it is taken.
        let ret = call(|| unsafe {
            let taken = |ret| ret == 1;
            once.hand_over(taken, |fn_, arg| {
                sys::vgf_fence_notify(self.raw(), ctx_id, fence_id, Some(fn_), arg)
            })
        });
        ret.map(|ret| ret == 1)
    }

    /// `vgf_fence_attach_dma_buf`: puts the fence of a guest's work on a dma-buf. `Later`: as soon
    /// as it has a descriptor; until then the kernel takes the buffer for idle.
    ///
    /// # Errors
    /// `AlreadySignalled`: there is nothing to wait for; `NotFound`, `NotPermitted`, `Ambiguous` as
    /// `export_fence`; `Unsupported`, `BadDescriptor`; `NoDescriptor`; `OutOfMemory`.
    pub fn attach_dma_buf(
        &self,
        ctx_id: u32,
        fence_id: u64,
        dma_buf: BorrowedFd<'_>,
        access: Access,
    ) -> Result<Progress> {
        use std::os::unix::io::AsRawFd;
        let (fd, access) = (dma_buf.as_raw_fd(), access.raw());
        // SAFETY: the device is alive, and the descriptor is lent.
        let ret = self.check(|device| unsafe {
            sys::vgf_fence_attach_dma_buf(device, ctx_id, fence_id, fd, access)
        });
        ret.map(Progress::new)
    }

    // ---- Snapshots

    /// `vgf_device_save`: which IDs each timeline has seen. Nothing may be pending.
    ///
    /// # Errors
    /// `Busy` if something is pending, or a driver runs in another thread; `OutOfMemory`;
    /// `Cancelled` during a reset; `Deadlock` from inside a driver's function or a deferred one.
    pub fn save(&self) -> Result<Vec<u8>> {
        let (mut blob, mut size) = (ptr::null_mut(), 0);
        // SAFETY: the blob is ours to free.
        call(|| unsafe {
            status(sys::vgf_device_save(self.raw(), &mut blob, &mut size))?;
            let bytes = slice::from_raw_parts(blob as *const u8, size).to_vec();
            sys::free(blob);
            Ok(bytes)
        })
    }

    /// `vgf_device_restore`: sets the marks of a device that has had no fence yet. The contexts of
    /// the blob have to be there.
    ///
    /// # Errors
    /// `InvalidInput` for a blob that is none; `Busy` if the device has had a fence; `NotFound` if
    /// a context is not there; `OutOfMemory`; `Cancelled` during a reset.
    pub fn restore(&self, blob: &[u8]) -> Result<()> {
        let (data, size) = (blob.as_ptr().cast(), blob.len());
        // SAFETY: the blob is only read.
        self.do_it(|device| unsafe { sys::vgf_device_restore(device, data, size) })
    }

    pub(crate) fn with_raw<R>(&self, f: impl FnOnce(*mut sys::vgf_device) -> R) -> R {
        call(|| f(self.raw()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if is_inside(self.key()) {
            eprintln!("vgfence: a device was dropped inside its driver, or a log message of it");
            abort();
        }
        self.gate.close();
        // SAFETY: no other call is in progress, as nobody else has the device; all callbacks have
        // come when it returns.
        let cookie = self.cookie;
        let _shared = unsafe { Arc::from_raw(cookie) };
        call(|| unsafe { sys::vgf_device_destroy(self.raw()) });
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}
