// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Panics, threads, and the end of a device in its own callbacks.

// The clippy of Rust 1.63 finds that in thread_local!.
#![allow(clippy::declare_interior_mutable_const)]

mod common;

use std::cell::RefCell;
use std::env;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Mutex, Weak};
use std::thread;

use common::*;
use vgfence::{
    Callbacks, Device, Driver, ErrorKind, FenceByCall, Flags, Job, LogLevel, Options, OutFence,
    Place, Progress, Retired, Submission,
};

/// The message of a panic in `f`.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("no panic");
    payload.downcast_ref::<&str>().expect("another panic").to_string()
}

fn own_thread() -> Options {
    Options { own_thread: true, ..Options::default() }
}

// ---- Panics

#[test]
fn a_panic_in_a_callback_goes_on_in_dispatch_and_loses_no_fence() {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let retire = move |_: &Retired| {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            panic!("the first");
        }
    };
    let device = Device::new(retire, &Options::default()).unwrap();
    device.create_context(1, Fake::done()).unwrap();
    for id in 1..=3 {
        submit(&device, 1, id, &[]).result.unwrap();
    }
    assert_eq!(panic_of(|| device.dispatch(NOW)), "the first");
    assert_eq!(seen.load(Ordering::Relaxed), 3);
    assert_eq!(device.dispatch(NOW), Ok(0));
}

#[test]
fn a_panic_in_a_driver_is_an_error_of_its_context() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let bad = Fake::new(|_| panic!("in submit"));
    device.create_context(1, bad.clone()).unwrap();
    device.create_context(2, Fake::done()).unwrap();
    assert_eq!(submit(&device, 1, 1, &[]).result, Err(EIO));
    assert_eq!(submit(&device, 1, 2, &[]).result, Err(EIO));
    assert_eq!(bad.ran(), [1]); // it is not called again
    assert_eq!(submit(&device, 2, 3, &[]).result, Ok(Progress::Done));
    assert_eq!(device.dispatch(NOW), Ok(3));
    drop(device);
    assert_eq!(bad.jobs.lock().unwrap().destroyed, Some(true));
}

#[test]
fn a_panic_with_a_promise_is_an_error_of_the_job() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let bad = Fake::new(|job| {
        let _fence = job.fence_by_call();
        panic!("with a fence")
    });
    device.create_context(1, bad).unwrap();
    assert_eq!(submit(&device, 1, 1, &[]).result, Err(EIO));
    assert_eq!(device.dispatch(NOW), Ok(1));
    assert_eq!(vmm.statuses(), [Err(EIO)]);
}

/// A payload that panics as well.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the end of a panic");
    }
}

#[test]
fn the_first_of_several_panics_goes_on() {
    let panics = |_: &Retired| std::panic::panic_any(Bomb);
    let device = Device::new(panics, &Options::default()).unwrap();
    device.create_context(1, Fake::done()).unwrap();
    for id in 1..=3 {
        submit(&device, 1, id, &[]).result.unwrap();
    }
    let payload = catch_unwind(AssertUnwindSafe(|| device.dispatch(NOW))).unwrap_err();
    assert!(payload.is::<Bomb>());
    std::mem::forget(payload);
    assert_eq!(device.stats().retired, 3);
}

struct PanicsInLog(Vmm);

impl Callbacks for PanicsInLog {
    fn retire(&self, retired: &Retired) {
        self.0.retire(retired);
    }

    fn log(&self, _: LogLevel, _: &str) {
        panic!("in a message");
    }
}

#[test]
fn a_panic_in_a_log_message_loses_no_fence() {
    let vmm = Vmm::default();
    let device = Device::new(PanicsInLog(vmm.clone()), &Options::default()).unwrap();
    device.create_context(1, Fake::done()).unwrap();
    let by_call = device.create_fence_by_call(name(1, 1), Flags::NONE, 0).unwrap();
    let not_polled = std::fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    assert_eq!(panic_of(|| by_call.publish(not_polled.into())), "in a message");
    assert_eq!(device.dispatch(NOW), Ok(1));
    assert_eq!(vmm.statuses(), [Err(EIO)]);
}

#[test]
fn panics_in_functions_that_are_called_once_go_on() {
    let vmm = Vmm::default();
    let device = vmm.device();
    device.create_context(1, Fake::done()).unwrap();
    let defer = || device.defer(1, Place::EveryRing, 0, |_| panic!("deferred"));
    assert_eq!(panic_of(defer), "deferred");
    let by_call = device.create_fence_by_call(name(1, 1), Flags::NONE, 0).unwrap();
    device.notify(1, 1, |_| panic!("notified")).unwrap();
    by_call.signal(Ok(())).unwrap();
    assert_eq!(panic_of(|| device.dispatch(NOW)), "notified");
    assert_eq!(vmm.ids(), [1]);
}

#[test]
fn a_panic_when_the_device_is_dropped_goes_on() {
    let device = Device::new(|_: &Retired| panic!("at the end"), &Options::default()).unwrap();
    device.create_context(1, Fake::by_call()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    assert_eq!(panic_of(|| drop(device)), "at the end");
}

// ---- What aborts does so in a process of its own.

fn aborts(test: &str, message: &str) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("VGF_TEST_CHILD", "1");
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{printed}");
    assert!(printed.contains(message), "{printed}");
}

fn is_child() -> bool {
    env::var_os("VGF_TEST_CHILD").is_some()
}

#[test]
fn a_panic_in_the_librarys_own_thread_aborts() {
    if !is_child() {
        let message = "a callback has panicked in the library's own thread";
        return aborts("a_panic_in_the_librarys_own_thread_aborts", message);
    }
    let device = Device::new(|_: &Retired| panic!("nowhere to go"), &own_thread()).unwrap();
    device.create_context(1, Fake::done()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn a_device_that_is_dropped_in_its_driver_aborts() {
    if !is_child() {
        let message = "a device was dropped inside its driver";
        return aborts("a_device_that_is_dropped_in_its_driver_aborts", message);
    }
    let slot: Arc<Mutex<Option<Arc<Device>>>> = Arc::default();
    let taken = slot.clone();
    let device = Arc::new(Vmm::default().device_with(&own_thread()));
    let (producer, gone) = (Fake::by_call(), Arc::new(AtomicBool::new(false)));
    let dropped = gone.clone();
    let consumer = Fake::new(move |_| {
        while !dropped.load(Ordering::Acquire) {
            thread::yield_now();
        }
        drop(taken.lock().unwrap().take());
        Ok(OutFence::Done)
    });
    device.create_context(1, producer.clone()).unwrap();
    device.create_context(2, consumer).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    submit(&device, 2, 2, &[1]).result.unwrap();
    *slot.lock().unwrap() = Some(device);
    producer.next().signal(Ok(())).unwrap();
    gone.store(true, Ordering::Release);
    loop {
        thread::park();
    }
}

/// A driver that has its device, in one way or another, and does something with it at its own end.
struct Owner<T: Send + Sync + 'static>(T, fn(&mut T));

impl<T: Send + Sync> Driver for Owner<T> {
    fn submit(&self, _: &Job<'_>) -> vgfence::Result<OutFence> {
        Ok(OutFence::Done)
    }
}

impl<T: Send + Sync> Drop for Owner<T> {
    fn drop(&mut self) {
        self.1(&mut self.0);
    }
}

#[test]
fn a_device_that_its_driver_drops_with_itself_aborts() {
    if !is_child() {
        let message = "a device was dropped inside its driver";
        return aborts("a_device_that_its_driver_drops_with_itself_aborts", message);
    }
    let device = Arc::new(Vmm::default().device_with(&own_thread()));
    let producer = Fake::by_call();
    device.create_context(1, producer.clone()).unwrap();
    device.create_context(2, Owner(device.clone(), |_| ())).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    submit(&device, 2, 2, &[1]).result.unwrap();
    assert_eq!(device.destroy_context(2), Ok(Progress::Later));
    drop(device);
    producer.next().signal(Ok(())).unwrap();
    // The device goes on if nobody notices.
    thread::sleep(std::time::Duration::from_secs(30));
}

// ---- The end of a device

#[test]
fn a_device_is_dropped_when_the_dispatch_that_let_go_of_it_returns() {
    thread_local! {
        static DEVICE: RefCell<Option<Rc<Device>>> = const { RefCell::new(None) };
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let retire = move |retired: &Retired| {
        DEVICE.with(|device| device.borrow_mut().take());
        notes.lock().unwrap().push((retired.fence.fence_id, retired.status));
    };
    let device = Rc::new(Device::new(retire, &Options::default()).unwrap());
    DEVICE.with(|slot| *slot.borrow_mut() = Some(device.clone()));
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    for id in 1..=2 {
        submit(&device, 1, id, &[]).result.unwrap();
    }
    gpu.next().signal(Ok(())).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(1));
    drop(device);
    assert_eq!(*seen.lock().unwrap(), [(1, Ok(())), (2, Err(ECANCELED))]);
    assert_eq!(gpu.jobs.lock().unwrap().destroyed, Some(true));
}

#[test]
fn a_device_is_dropped_at_the_end_of_its_thread() {
    thread_local! {
        static DEVICE: RefCell<Option<Device>> = const { RefCell::new(None) };
    }
    let vmm = Vmm::default();
    let (callbacks, gpu) = (vmm.clone(), Fake::by_call());
    let driver = gpu.clone();
    let thread = thread::spawn(move || {
        DEVICE.with(|slot| {
            let mut slot = slot.borrow_mut();
            let device = slot.insert(callbacks.device());
            device.create_context(1, driver).unwrap();
            submit(device, 1, 1, &[]).result.unwrap();
        });
    });
    thread.join().unwrap();
    assert_eq!(vmm.statuses(), [Err(ECANCELED)]);
    assert_eq!(gpu.jobs.lock().unwrap().destroyed, Some(true));
}

/// The callback's own data stays until it returns.
#[test]
fn a_device_is_dropped_in_a_callback_of_the_librarys_own_thread() {
    let slot: Arc<Mutex<Option<Device>>> = Arc::default();
    let taken = slot.clone();
    let (send, seen) = mpsc::channel();
    let send = Mutex::new(send);
    let canary = vec![7u8; 4096];
    let retire = move |retired: &Retired| {
        let device = taken.lock().unwrap().take();
        drop(device);
        assert_eq!(canary, [7u8; 4096]);
        send.lock().unwrap().send((retired.fence.fence_id, retired.status)).unwrap();
    };
    let device = Device::new(retire, &own_thread()).unwrap();
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    for id in 1..=3 {
        submit(&device, 1, id, &[]).result.unwrap();
    }
    assert_eq!(device.poll_fd().unwrap_err().kind(), ErrorKind::Busy);
    *slot.lock().unwrap() = Some(device);
    gpu.next().signal(Ok(())).unwrap();
    let mut all: Vec<_> = seen.iter().collect(); // until the callbacks are gone
    all.sort_unstable_by_key(|fence| fence.0);
    assert_eq!(all, [(1, Ok(())), (2, Err(ECANCELED)), (3, Err(ECANCELED))]);
    assert_eq!(gpu.jobs.lock().unwrap().destroyed, Some(true));
}

#[test]
fn what_is_left_of_before_a_reset_signals_nothing() {
    let vmm = Vmm::default();
    let mut device = vmm.device();
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    let old = [gpu.next(), device.create_fence_by_call(name(1, 2), Flags::NONE, 0).unwrap()];
    device.reset().unwrap();
    assert_eq!(vmm.statuses(), [Err(ECANCELED), Err(ECANCELED)]);
    assert_eq!(gpu.jobs.lock().unwrap().destroyed, Some(true));
    // The same names once more.
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    for fence in old {
        assert_eq!(fence.signal(Ok(())), Err(ECANCELED));
    }
    assert_eq!(device.dispatch(NOW), Ok(0));
    let new = gpu.next();
    new.signal(Ok(())).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(1));
    submit(&device, 1, 2, &[]).result.unwrap();
    let last = gpu.next();
    drop(device);
    let not_published = last.publish(signalled().0).unwrap_err();
    assert_eq!(not_published.error, ECANCELED);
    assert!(is_open(&not_published.fd));
}

type Slot = Arc<Mutex<Option<Device>>>;

struct Resets(Slot, Mutex<mpsc::Sender<ErrorKind>>);

impl Callbacks for Resets {
    fn retire(&self, _: &Retired) {}

    fn log(&self, _: LogLevel, _: &str) {
        let mut device = self.0.lock().unwrap();
        let error = device.as_mut().unwrap().reset().unwrap_err();
        self.1.lock().unwrap().send(error.kind()).unwrap();
    }
}

#[test]
fn a_log_message_cannot_reset_its_device() {
    let slot = Slot::default();
    let (send, kinds) = mpsc::channel();
    let callbacks = Resets(slot.clone(), Mutex::new(send));
    let device = Device::new(callbacks, &own_thread()).unwrap();
    let producer = Fake::by_call();
    device.create_context(1, producer.clone()).unwrap();
    device.create_context(2, Fake::new(|_| Err(EIO))).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    submit(&device, 2, 2, &[1]).result.unwrap();
    *slot.lock().unwrap() = Some(device);
    producer.next().signal(Ok(())).unwrap();
    assert_eq!(kinds.recv(), Ok(ErrorKind::Deadlock)); // of the job that fails
    let device = slot.lock().unwrap().take();
    drop(device);
}

#[test]
fn a_driver_cannot_reset_its_device_as_it_is_dropped() {
    type Answers = Mutex<mpsc::Sender<vgfence::Result<()>>>;
    let slot = Slot::default();
    let (send, answers) = mpsc::channel();
    let resets = |(slot, send): &mut (Slot, Answers)| {
        let answer = slot.lock().unwrap().as_mut().unwrap().reset();
        send.get_mut().unwrap().send(answer).unwrap();
    };
    let device = Vmm::default().device_with(&own_thread());
    let producer = Fake::by_call();
    device.create_context(1, producer.clone()).unwrap();
    device.create_context(2, Owner((slot.clone(), Mutex::new(send)), resets)).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    submit(&device, 1, 2, &[]).result.unwrap();
    submit(&device, 2, 3, &[1]).result.unwrap();
    assert_eq!(device.destroy_context(2), Ok(Progress::Later));
    *slot.lock().unwrap() = Some(device);
    producer.next().signal(Ok(())).unwrap();
    assert_eq!(answers.recv().unwrap().unwrap_err().kind(), ErrorKind::Deadlock);
    producer.next().signal(Ok(())).unwrap(); // that of the other context is as good as before
    let device = slot.lock().unwrap().take();
    drop(device);
}

// ---- Threads

#[test]
fn what_may_go_to_other_threads() {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<Device>();
    send_and_sync::<FenceByCall>();
    send_and_sync::<vgfence::Submit3d>();
    send_and_sync::<vgfence::Error>();
}

/// Threads submit, another signals, another dispatches: each fence once, each timeline in order.
#[test]
fn threads_share_a_device() {
    const THREADS: u32 = 4;
    const JOBS: u64 = 2000;
    let vmm = Vmm::default();
    let device = vmm.device();
    let (send, fences) = mpsc::channel::<FenceByCall>();
    for ctx_id in 1..=THREADS {
        let send = Mutex::new(send.clone());
        let gpu = Fake::new(move |job: &Job<'_>| {
            send.lock().unwrap().send(job.fence_by_call()).unwrap();
            Ok(OutFence::ByCall)
        });
        device.create_context(ctx_id, gpu).unwrap();
    }
    drop(send);
    let newest = AtomicU64::new(0);
    let total = u64::from(THREADS) * JOBS;
    thread::scope(|scope| {
        for ctx_id in 1..=THREADS {
            let (device, newest) = (&device, &newest);
            scope.spawn(move || {
                for number in 1..=JOBS {
                    // Odd ones wait for what another thread has just submitted, if it is there.
                    let id = number * u64::from(THREADS) + u64::from(ctx_id);
                    let other = newest.load(Ordering::Acquire);
                    let waits = usize::from(number % 2 == 1 && other > 0);
                    let submitted = submit(device, ctx_id, id, &[other][..waits]);
                    assert!(submitted.result.is_ok() && submitted.will_retire, "{submitted:?}");
                    newest.store(id, Ordering::Release);
                }
            });
        }
        scope.spawn(move || {
            for fence in fences.iter().take(total as usize) {
                fence.signal(Ok(())).unwrap();
            }
        });
        while (vmm.0.lock().unwrap().retired.len() as u64) < total {
            device.dispatch(LONG).unwrap();
        }
    });
    let retired = vmm.0.lock().unwrap().retired.clone();
    for ctx_id in 1..=THREADS {
        let ids = retired.iter().filter(|fence| fence.0 == ctx_id).map(|fence| fence.1);
        let first = u64::from(THREADS) + u64::from(ctx_id);
        assert!(ids.eq((0..JOBS).map(|number| first + number * u64::from(THREADS))));
    }
}

/// Signalling beside the end: in time or not, it does no harm.
#[test]
fn fences_are_signalled_while_the_device_goes() {
    for _ in 0..50 {
        let vmm = Vmm::default();
        let device = vmm.device();
        let gpu = Fake::by_call();
        device.create_context(1, gpu.clone()).unwrap();
        for id in 1..=20 {
            submit(&device, 1, id, &[]).result.unwrap();
        }
        let fences = std::mem::take(&mut gpu.jobs.lock().unwrap().by_call);
        let signals = thread::spawn(move || {
            for fence in fences {
                if let Err(error) = fence.signal(Ok(())) {
                    assert_eq!(error.kind(), ErrorKind::Cancelled);
                }
            }
        });
        drop(device);
        signals.join().unwrap();
        assert!(vmm.ids().into_iter().eq(1..=20));
    }
}

#[test]
fn callbacks_may_use_the_device() {
    let slot: Arc<Mutex<Weak<Device>>> = Arc::default();
    let found = slot.clone();
    let device = Device::new(
        move |retired: &Retired| {
            let device = found.lock().unwrap().upgrade().unwrap();
            if retired.fence.fence_id < 100 {
                let work = Submission::new(name(1, retired.fence.fence_id + 1), Flags::FENCED);
                device.submit(&work).result.unwrap();
            }
            let _ = device.dispatch(NOW).unwrap();
            device.dump().unwrap();
        },
        &Options::default(),
    );
    let device = Arc::new(device.unwrap());
    *slot.lock().unwrap() = Arc::downgrade(&device);
    device.create_context(1, Fake::done()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    device.drain(LONG).unwrap();
    assert_eq!(device.stats().retired, 100);
}
