// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Fences retire in order, once, and with their errors.

mod common;

use std::io::IoSlice;
use std::os::unix::io::AsFd;
use std::sync::{Arc, Mutex};

use common::*;
use vgfence::{
    dma_buf, sync_file, Error, ErrorKind, FenceName, Flags, Generation, Limits, Options, OutFence,
    Place, Progress, Ring, Submission, Submit3d, Wait,
};

#[test]
fn the_library_has_the_version_of_the_crate() {
    assert_eq!(vgfence::version(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_timeline_retires_in_order() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    for id in 1..=3 {
        let submitted = submit(&device, 1, id, &[]);
        assert_eq!(submitted.result, Ok(Progress::Done));
        assert!(submitted.will_retire);
    }
    let (first, second, third) = (gpu.next(), gpu.next(), gpu.next());
    third.signal(Ok(())).unwrap();
    second.signal(Err(EIO)).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(0));
    first.signal(Ok(())).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(3));
    assert_eq!(vmm.ids(), [1, 2, 3]);
    assert_eq!(vmm.statuses(), [Ok(()), Err(EIO), Ok(())]);
    assert_eq!(vmm.0.lock().unwrap().batches, 1);
}

#[test]
fn held_work_runs_when_its_in_fence_retires() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let (producer, consumer) = (Fake::by_call(), Fake::done());
    device.create_context(1, producer.clone()).unwrap();
    device.create_context(2, consumer.clone()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    let work = Submission::new(name(2, 2), Flags::FENCED);
    let work = Submission { in_fences: &[1], command: &[7; 8], cookie: 99, ..work };
    let submitted = device.submit(&work);
    assert_eq!(submitted.result, Ok(Progress::Later));
    assert!(submitted.will_retire);
    assert_eq!(device.dispatch(NOW), Ok(0));
    assert_eq!(consumer.ran(), []);
    producer.next().signal(Ok(())).unwrap();
    while vmm.ids().len() < 2 {
        device.dispatch(LONG).unwrap();
    }
    assert_eq!(consumer.ran(), [2]);
    assert_eq!(consumer.jobs.lock().unwrap().commands, [[7; 8]]);
    assert_eq!(vmm.0.lock().unwrap().retired[1], (2, 2, Ok(()), 99));
}

#[test]
fn a_driver_that_waits_gets_descriptors() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let (fd, signal) = fence();
    let fds = Mutex::new(Some(fd));
    let producer = Fake::new(move |_| Ok(OutFence::Fd(fds.lock().unwrap().take().unwrap())));
    let consumer = Fake::new(|job| {
        assert_eq!(job.wait(), Wait::Driver);
        let in_fence = job.in_fences().next().unwrap();
        assert_eq!(in_fence.fence_id, Some(1));
        assert_eq!(sync_file::poll(in_fence.fd), Ok(false));
        Ok(OutFence::Done)
    });
    device.create_context(1, producer).unwrap();
    device.create_context(2, consumer.clone().waits(Wait::Driver)).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    assert_eq!(submit(&device, 2, 2, &[1]).result, Ok(Progress::Done));
    assert_eq!(consumer.ran(), [2]);
    write(&signal);
    while vmm.ids().len() < 2 {
        device.dispatch(LONG).unwrap();
    }
}

#[test]
fn descriptors_of_the_vmm_are_waited_for() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let gpu = Fake::done();
    device.create_context(1, gpu.clone()).unwrap();
    let (fence, signal) = fence();
    let work = Submission::new(name(1, 1), Flags::FENCED);
    let fds = [fence.as_fd()];
    let submitted = device.submit(&Submission { in_fence_fds: &fds, ..work });
    assert_eq!(submitted.result, Ok(Progress::Later));
    assert_eq!(device.dispatch(NOW), Ok(0));
    assert_eq!(gpu.ran(), []);
    write(&signal);
    while vmm.ids().is_empty() {
        device.dispatch(LONG).unwrap();
    }
    assert_eq!(gpu.ran(), [1]);
}

/// Each fence once, however they signal.
#[test]
fn every_fence_retires_once() {
    const JOBS: u64 = 3000;
    let vmm = Vmm::default();
    let device = vmm.device();
    let gpus: Vec<Fake> = (0..4).map(|_| Fake::by_call().independent()).collect();
    for (ctx_id, gpu) in (1..).zip(&gpus) {
        device.create_context(ctx_id, gpu.clone()).unwrap();
    }
    let mut state = 1u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    for id in 1..=JOBS {
        let ring = Ring::Index(random(4) as u8);
        let fence = FenceName { fence_id: id, ctx_id: 1 + random(4) as u32, ring };
        let in_fences = [1 + random(id), 1 + random(id)];
        let in_fences = if id > 1 { &in_fences[..random(3) as usize] } else { &[] };
        let in_fences: Vec<u64> = in_fences.iter().map(|&in_fence| in_fence.min(id - 1)).collect();
        let work = Submission::new(fence, Flags::FENCED | Flags::SHAREABLE);
        let submitted = device.submit(&Submission { in_fences: &in_fences, ..work });
        assert!(submitted.result.is_ok() && submitted.will_retire, "{submitted:?}");
        if random(2) == 0 {
            signal_one(&gpus[random(4) as usize], random(100) as usize);
            device.dispatch(NOW).unwrap();
        }
    }
    while vmm.ids().len() < JOBS as usize {
        for gpu in &gpus {
            signal_one(gpu, 0);
        }
        device.dispatch(NOW).unwrap();
    }
    assert_eq!(device.dispatch(NOW), Ok(0));
    let mut ids = vmm.ids();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(1..=JOBS));
    let stats = device.stats();
    assert_eq!((stats.retired, stats.pending, stats.held), (JOBS, 0, 0));
}

fn signal_one(gpu: &Fake, at: usize) {
    let fence = {
        let mut jobs = gpu.jobs.lock().unwrap();
        let len = jobs.by_call.len();
        (len > 0).then(|| jobs.by_call.remove(at % len))
    };
    if let Some(fence) = fence {
        fence.signal(Ok(())).unwrap();
    }
}

#[test]
fn a_fence_by_call_that_is_dropped_retires_with_an_error() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    drop(gpu.next());
    drop(device.create_fence_by_call(name(1, 2), Flags::NONE, 0).unwrap());
    assert_eq!(device.dispatch(NOW), Ok(2));
    assert_eq!(vmm.statuses(), [Err(EIO), Err(EIO)]);
}

#[test]
fn a_driver_that_breaks_its_promise_is_an_error() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let dropped = Fake::new(|job| {
        drop(job.fence_by_call());
        Ok(OutFence::ByCall)
    });
    device.create_context(1, dropped).unwrap();
    device.create_context(2, Fake::new(|_| Ok(OutFence::ByCall))).unwrap();
    let early = Fake::new(|job| {
        job.fence_by_call().signal(Ok(())).unwrap();
        Ok(OutFence::ByCall)
    });
    device.create_context(3, early).unwrap();
    assert_eq!(submit(&device, 1, 1, &[]).result, Err(EIO));
    assert_eq!(submit(&device, 2, 2, &[]).result, Err(EINVAL));
    assert_eq!(submit(&device, 3, 3, &[]).result, Ok(Progress::Done));
    assert_eq!(device.dispatch(NOW), Ok(3));
    let mut retired = vmm.0.lock().unwrap().retired.clone();
    retired.sort_unstable_by_key(|retired| retired.1);
    let statuses: Vec<_> = retired.iter().map(|retired| retired.2).collect();
    assert_eq!(statuses, [Err(EIO), Err(EINVAL), Ok(())]);
}

/// What was promised before the error must not signal the fence of the job that runs again.
#[test]
fn a_job_that_runs_again_has_a_new_promise() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let (fd, signal) = fence();
    device.create_context(1, Fake::done()).unwrap();
    device.create_fence(name(1, 1), Flags::SHAREABLE, 0, fd).unwrap();
    let (kept, later) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (keep, tries) = (kept.clone(), later.clone());
    let gpu = Fake::new(move |job| {
        if job.in_fences().next().is_some() {
            keep.lock().unwrap().push(job.fence_by_call());
            drop(job.fence_by_call());
            return Err(EOPNOTSUPP);
        }
        tries.lock().unwrap().push(job.fence_by_call());
        Ok(OutFence::ByCall)
    });
    device.create_context(2, gpu.clone().waits(Wait::Driver)).unwrap();
    assert_eq!(submit(&device, 2, 2, &[1]).result, Ok(Progress::Later));
    let old = kept.lock().unwrap().pop().unwrap();
    let not_published = old.publish(signalled().0).unwrap_err();
    assert_eq!(not_published.error.kind(), ErrorKind::NotFound);
    let signalled = not_published.fence.signal(Ok(()));
    assert_eq!(signalled.unwrap_err().kind(), ErrorKind::NotFound);
    write(&signal);
    while later.lock().unwrap().is_empty() {
        device.dispatch(LONG).unwrap();
    }
    assert_eq!(gpu.ran(), [2, 2]);
    device.dispatch(NOW).unwrap();
    assert_eq!(vmm.ids(), [1]);
    later.lock().unwrap().pop().unwrap().signal(Ok(())).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(1));
    assert_eq!(vmm.statuses(), [Ok(()), Ok(())]);
}

#[test]
fn a_promise_does_not_signal_a_fence_with_a_descriptor() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let (fd, signal) = fence();
    let (fds, kept) = (Mutex::new(Some(fd)), Arc::new(Mutex::new(Vec::new())));
    let keep = kept.clone();
    let gpu = Fake::new(move |job| {
        keep.lock().unwrap().push(job.fence_by_call());
        Ok(OutFence::Fd(fds.lock().unwrap().take().unwrap()))
    });
    device.create_context(1, gpu).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    let signalled = kept.lock().unwrap().pop().unwrap().signal(Ok(()));
    assert_eq!(signalled.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(device.dispatch(NOW), Ok(0));
    write(&signal);
    assert_eq!(device.dispatch(LONG), Ok(1));
}

/// Without FENCED the ID means nothing: here it is that of another job.
#[test]
fn a_job_without_a_fence_signals_none() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    for _ in 0..3 {
        let submitted = device.submit(&Submission::new(name(1, 1), Flags::NONE));
        assert_eq!(submitted.result, Ok(Progress::Done));
        assert!(!submitted.will_retire);
    }
    let fenced = gpu.next();
    assert_eq!(gpu.next().signal(Ok(())), Ok(()));
    gpu.next().publish(signalled().0).unwrap();
    drop(gpu.next());
    assert_eq!(device.dispatch(NOW), Ok(0));
    fenced.signal(Ok(())).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(1));
    assert_eq!(vmm.statuses(), [Ok(())]);
}

#[test]
fn fences_of_a_family_come_by_name() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let first = Fake::by_call().waits(Wait::Driver).of_family(7);
    let named = Arc::new(Mutex::new(Vec::new()));
    let names = named.clone();
    let second = Fake::new(move |job| {
        assert_eq!(job.in_fences().count(), 0);
        names.lock().unwrap().extend(job.family_fences());
        Ok(OutFence::Done)
    });
    device.create_context(1, first.clone()).unwrap();
    device.create_context(2, second.waits(Wait::Driver).of_family(7)).unwrap();
    device.create_context(3, Fake::done().waits(Wait::Driver).of_family(8)).unwrap();
    assert_eq!(submit(&device, 1, 1, &[]).result, Ok(Progress::Done));
    assert_eq!(submit(&device, 2, 2, &[1]).result, Ok(Progress::Done));
    assert_eq!(submit(&device, 3, 3, &[1]).result, Ok(Progress::Later));
    assert_eq!(*named.lock().unwrap(), [name(1, 1)]);
    first.next().signal(Ok(())).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(3));
}

#[test]
fn a_fence_by_call_can_be_published_and_exported() {
    let vmm = Vmm::default();
    let device = vmm.device();
    device.create_context(1, Fake::done()).unwrap();
    let by_call = device.create_fence_by_call(name(1, 1), Flags::NONE, 0).unwrap();
    let kind = |ctx_id, id| device.export_fence(ctx_id, id).unwrap_err().kind();
    assert_eq!(kind(1, 1), ErrorKind::TryAgain);
    assert_eq!(kind(1, 9), ErrorKind::NotFound);
    let (fd, signal) = fence();
    by_call.publish(fd).unwrap();
    let exported = device.export_fence(1, 1).unwrap().unwrap();
    assert_eq!(sync_file::poll(exported.as_fd()), Ok(false));
    write(&signal);
    assert_eq!(device.dispatch(LONG), Ok(1));
    assert_eq!(sync_file::poll(exported.as_fd()), Ok(true));
    assert!(device.export_fence(1, 1).unwrap().is_none());
}

#[test]
fn who_asks_is_told_when_a_fence_retires() {
    let vmm = Vmm::default();
    let device = vmm.device();
    device.create_context(1, Fake::done()).unwrap();
    let by_call = device.create_fence_by_call(name(1, 1), Flags::NONE, 0).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = |told: &Arc<Mutex<Vec<_>>>| {
        let told = told.clone();
        move |status| told.lock().unwrap().push(status)
    };
    assert_eq!(device.notify(1, 1, tell(&told)), Ok(true));
    by_call.signal(Err(EIO)).unwrap();
    assert_eq!(*told.lock().unwrap(), []);
    device.dispatch(NOW).unwrap();
    assert_eq!(*told.lock().unwrap(), [Err(EIO)]);
    assert_eq!(device.notify(1, 1, tell(&told)), Ok(false));
    assert_eq!(device.notify(1, 7, tell(&told)).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(told.lock().unwrap().len(), 1);
    assert_eq!(Arc::strong_count(&told), 1); // no function is left
}

#[test]
fn deferred_calls_keep_their_place() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    device.create_context(2, Fake::done()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    submit(&device, 2, 2, &[1]).result.unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let call = |number: u32| {
        let calls = calls.clone();
        move |status: vgfence::Result<()>| calls.lock().unwrap().push((number, status))
    };
    assert_eq!(device.defer(1, Place::EveryRing, 0, call(1)), Ok(Progress::Done));
    assert_eq!(device.defer(2, Place::Ring(Ring::Index(0)), 8, call(2)), Ok(Progress::Later));
    assert_eq!(device.defer(3, Place::EveryRing, 0, call(3)).unwrap_err().errno(), 2);
    assert_eq!(*calls.lock().unwrap(), [(1, Ok(()))]);
    gpu.next().signal(Ok(())).unwrap();
    while vmm.ids().len() < 2 {
        device.dispatch(LONG).unwrap();
    }
    assert_eq!(*calls.lock().unwrap(), [(1, Ok(())), (2, Ok(()))]);
}

#[test]
fn what_is_given_up_retires_with_the_error() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let gpu = Fake::by_call();
    device.create_context(1, gpu.clone()).unwrap();
    for id in 1..=3 {
        submit(&device, 1, id, &[]).result.unwrap();
    }
    device.cancel_fence(name(1, 1), ECANCELED).unwrap();
    assert_eq!(
        device.cancel_fence(name(1, 1), EIO).unwrap_err().kind(),
        ErrorKind::AlreadySignalled
    );
    assert_eq!(device.cancel_timeline(1, Ring::Index(0), EIO), Ok(2));
    assert_eq!(device.cancel_timeline(1, Ring::Index(64), EIO), Err(EINVAL));
    assert_eq!(gpu.next().signal(Ok(())).unwrap_err().kind(), ErrorKind::AlreadySignalled);
    assert_eq!(device.dispatch(NOW), Ok(3));
    assert_eq!(vmm.statuses(), [Err(ECANCELED), Err(EIO), Err(EIO)]);
    submit(&device, 1, 4, &[]).result.unwrap();
    device.cancel_context(1, Generation::Open, true, EIO).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(1));
    let error = device.cancel_context(9, Generation::All, false, EIO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    submit(&device, 1, 5, &[]).result.unwrap();
    device.cancel_every_context(Generation::All, true, EIO).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(1));
    assert_eq!(vmm.statuses()[4], Err(EIO));
    device.refuse_fence(name(1, 6), Flags::NONE, 6, EINVAL).unwrap();
    assert_eq!(device.dispatch(NOW), Ok(1));
    assert_eq!(vmm.0.lock().unwrap().retired[5], (1, 6, Err(EINVAL), 6));
}

#[test]
fn contexts_are_destroyed_behind_their_work() {
    let vmm = Vmm::default();
    let device = vmm.device();
    let (producer, consumer) = (Fake::by_call(), Fake::done());
    device.create_context(1, producer.clone()).unwrap();
    device.create_context(2, consumer.clone()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    submit(&device, 2, 2, &[1]).result.unwrap();
    assert_eq!(device.destroy_context(2), Ok(Progress::Later));
    assert_eq!(consumer.jobs.lock().unwrap().destroyed, None);
    producer.next().signal(Ok(())).unwrap();
    while vmm.ids().len() < 2 {
        device.dispatch(LONG).unwrap();
    }
    assert_eq!(consumer.jobs.lock().unwrap().destroyed, Some(false));
    assert_eq!(device.destroy_context(1), Ok(Progress::Done));
    assert_eq!(device.destroy_context(1).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_marks_go_on_in_another_device() {
    let vmm = Vmm::default();
    let device = vmm.device();
    device.create_context(1, Fake::by_call()).unwrap();
    let by_call = device.create_fence_by_call(name(1, 7), Flags::SHAREABLE, 0).unwrap();
    assert_eq!(device.save().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(device.drain(NOW).unwrap_err().kind(), ErrorKind::TimedOut);
    by_call.signal(Ok(())).unwrap();
    device.drain(LONG).unwrap();
    let blob = device.save().unwrap();
    assert_eq!(&blob[..8], b"VGFENCE\0");
    drop(device);
    let device = vmm.device();
    assert_eq!(device.restore(&blob).unwrap_err().kind(), ErrorKind::NotFound);
    device.create_context(1, Fake::done()).unwrap();
    assert_eq!(device.restore(&blob[..20]), Err(EINVAL));
    device.restore(&blob).unwrap();
    assert_eq!(submit(&device, 1, 7, &[]).result, Err(EINVAL));
    assert_eq!(submit(&device, 1, 8, &[7]).result, Ok(Progress::Done));
}

#[test]
fn what_is_pending_can_be_seen() {
    let vmm = Vmm::default();
    let device = vmm.device();
    device.create_context(1, Fake::by_call()).unwrap();
    device.create_context(2, Fake::done()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    submit(&device, 2, 2, &[1]).result.unwrap();
    let pending = device.pending();
    let seen: Vec<_> = pending.iter().map(|fence| (fence.fence.fence_id, fence.held)).collect();
    assert_eq!(seen, [(1, false), (2, true)]);
    assert_eq!(device.context_pending(2).len(), 1);
    assert!(device.dump().unwrap().contains("fence 2"), "{}", device.dump().unwrap());
    assert_eq!(device.stats().pending, 2);
    drop(device); // gives up
    assert_eq!(vmm.statuses(), [Err(ECANCELED), Err(ECANCELED)]);
}

#[test]
fn stalls_are_reported_once() {
    let vmm = Vmm::default();
    let stall = Some(std::time::Duration::from_millis(1));
    let device = vmm.device_with(&Options { stall, ..Options::default() });
    device.create_context(1, Fake::by_call()).unwrap();
    submit(&device, 1, 1, &[]).result.unwrap();
    while vmm.0.lock().unwrap().stalled.is_empty() {
        device.dispatch(LONG).unwrap();
    }
    assert_eq!(vmm.0.lock().unwrap().stalled, [1]);
    assert!(vmm.0.lock().unwrap().log.iter().any(|line| line.contains("fence 1")));
}

#[test]
fn errors_have_kinds() {
    let vmm = Vmm::default();
    let limits = Limits { max_contexts: 2, max_in_fences: 1, ..Limits::default() };
    let device = vmm.device_with(&Options { limits, ..Options::default() });
    device.create_context(1, Fake::by_call()).unwrap();
    device.create_context(2, Fake::done()).unwrap();
    let kind = |submitted: vgfence::Submitted| submitted.result.unwrap_err().kind();
    let create = |ctx_id| device.create_context(ctx_id, Fake::done()).unwrap_err().kind();
    assert_eq!(create(1), ErrorKind::AlreadyExists);
    assert_eq!(create(3), ErrorKind::AtLimit);
    let private = device.submit(&Submission::new(name(1, 1), Flags::FENCED));
    assert!(private.will_retire);
    let no_context = submit(&device, 7, 2, &[]);
    assert!(!no_context.will_retire);
    assert_eq!(kind(no_context), ErrorKind::NotFound);
    assert_eq!(kind(submit(&device, 2, 2, &[1])), ErrorKind::NotPermitted);
    assert_eq!(kind(submit(&device, 2, 3, &[77])), ErrorKind::NotFound);
    assert_eq!(kind(submit(&device, 2, 4, &[1, 1])), ErrorKind::TooBig);
    assert_eq!(kind(submit(&device, 2, 4, &[])), ErrorKind::InvalidInput);
    device.create_fence_by_call(name(2, 1), Flags::NONE, 0).unwrap_err();
    let (file, _) = (std::fs::File::open("/dev/null").unwrap(), ());
    let not_polled = std::fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    let taken = device.create_fence(name(2, 9), Flags::NONE, 0, not_polled.into());
    let not_taken = taken.unwrap_err();
    assert_eq!(not_taken.error.kind(), ErrorKind::NotPermitted);
    assert!(is_open(&not_taken.fd));
    let file: std::os::unix::io::OwnedFd = file.into();
    let access = dma_buf::Access::Write;
    assert_eq!(
        dma_buf::export_sync_file(file.as_fd(), access).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    let error = device.attach_dma_buf(1, 1, file.as_fd(), access).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let io: std::io::Error = Error::new(28).into();
    assert_eq!(io.raw_os_error(), Some(28));
    assert_eq!(format!("{:?}", Error::new(28)), "AtLimit (errno 28)");
    assert_eq!(Error::new(4095).kind(), ErrorKind::Other);
    assert_eq!(sync_file::merge(&[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(sync_file::info(file.as_fd()).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(sync_file::name(file.as_fd()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn descriptors_that_are_fences_are_waited_for_and_merged() {
    let ((first, signal_first), (second, _signal_second)) = (fence(), fence());
    let waited = sync_file::wait(first.as_fd(), 0).unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::TimedOut);
    write(&signal_first);
    sync_file::wait(first.as_fd(), i64::MAX).unwrap();
    assert_eq!(sync_file::signalled(first.as_fd()), Ok(true));
    // The one that is left is copied.
    let merged = sync_file::merge(&[first.as_fd(), second.as_fd()]).unwrap();
    assert_eq!(sync_file::poll(merged.as_fd()), Ok(false));
    let error = sync_file::set_deadline(second.as_fd(), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

fn request(size: u32, num_in_fences: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0x0207u32, 1 | 2 | 4] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(42u64.to_le_bytes());
    for word in [3u32, 5, size, num_in_fences] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(7u64.to_le_bytes());
    bytes.extend([0xaa; 8]);
    bytes
}

#[test]
fn requests_of_a_guest_are_decoded() {
    let bytes = request(8, 1);
    let pieces = [IoSlice::new(&bytes[..13]), IoSlice::new(&bytes[13..])];
    let submit = Submit3d::decode(&pieces, true, &Limits::default()).unwrap();
    let submission = submit.submission();
    let fence = FenceName { fence_id: 42, ctx_id: 3, ring: Ring::Index(5) };
    assert_eq!(submission.fence, fence);
    assert_eq!(submission.flags, Flags::FENCED | Flags::SHAREABLE);
    assert_eq!((submission.in_fences, submission.command), (&[7u64][..], &[0xaau8; 8][..]));
    let long = request(12, 1);
    let error = Submit3d::decode(&[IoSlice::new(&long)], true, &Limits::default()).unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Malformed);
    assert_eq!(error.fence, Some((fence, Flags::FENCED | Flags::SHAREABLE)));
    assert!(!error.reason.is_empty());
    let short = Submit3d::decode(&[IoSlice::new(&long[..20])], true, &Limits::default());
    assert_eq!(short.unwrap_err().fence, None);
}
