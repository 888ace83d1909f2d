// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! What tests of this crate have in common: a VMM that notes what retires, and a driver that does
//! what a test says. Fences are sockets, which poll readable once something was written.

#![allow(dead_code)] // no test needs all of it

use std::io::Write;
use std::os::unix::io::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vgfence::{
    Callbacks, Device, Driver, Error, FenceByCall, FenceName, Flags, Job, LogLevel, Options,
    OutFence, Result, Retired, Ring, Stall, Submission, Submitted, Wait,
};

pub const LONG: Option<Duration> = Some(Duration::from_secs(30)); // so that nothing hangs
pub const NOW: Option<Duration> = Some(Duration::ZERO);

/// What a device has called.
#[derive(Default)]
pub struct Notes {
    pub retired: Vec<(u32, u64, Result<()>, usize)>,
    pub batches: usize,
    pub stalled: Vec<u64>,
    pub log: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Vmm(pub Arc<Mutex<Notes>>);

impl Vmm {
    pub fn device(&self) -> Device {
        self.device_with(&Options::default())
    }

    pub fn device_with(&self, options: &Options) -> Device {
        Device::new(self.clone(), options).unwrap()
    }

    pub fn ids(&self) -> Vec<u64> {
        self.0.lock().unwrap().retired.iter().map(|retired| retired.1).collect()
    }

    pub fn statuses(&self) -> Vec<Result<()>> {
        self.0.lock().unwrap().retired.iter().map(|retired| retired.2).collect()
    }
}

impl Callbacks for Vmm {
    fn retire(&self, retired: &Retired) {
        let Retired { fence, status, cookie } = *retired;
        self.0.lock().unwrap().retired.push((fence.ctx_id, fence.fence_id, status, cookie));
    }

    fn retire_end(&self) {
        self.0.lock().unwrap().batches += 1;
    }

    fn stalled(&self, stall: &Stall<'_>) {
        self.0.lock().unwrap().stalled.push(stall.fence.fence_id);
    }

    fn log(&self, _: LogLevel, message: &str) {
        self.0.lock().unwrap().log.push(message.to_string());
    }
}

/// What a driver has got.
#[derive(Default)]
pub struct Jobs {
    pub ran: Vec<u64>,
    pub commands: Vec<Vec<u8>>,
    pub in_fences: Vec<usize>,
    pub by_call: Vec<FenceByCall>,
    pub destroyed: Option<bool>,
}

type Answer = dyn Fn(&Job<'_>) -> Result<OutFence> + Send + Sync;

#[derive(Clone)]
pub struct Fake {
    pub jobs: Arc<Mutex<Jobs>>,
    answer: Arc<Answer>,
    wait: Wait,
    independent_rings: bool,
    family: usize,
}

impl Fake {
    pub fn new(answer: impl Fn(&Job<'_>) -> Result<OutFence> + Send + Sync + 'static) -> Fake {
        let answer = Arc::new(answer);
        let jobs = Arc::default();
        Fake { jobs, answer, wait: Wait::Host, independent_rings: false, family: 0 }
    }

    pub fn done() -> Fake {
        Fake::new(|_| Ok(OutFence::Done))
    }

    /// Its jobs are signalled with what is then in `by_call`.
    pub fn by_call() -> Fake {
        let jobs: Arc<Mutex<Jobs>> = Arc::default();
        let promised = jobs.clone();
        let answer = move |job: &Job<'_>| {
            promised.lock().unwrap().by_call.push(job.fence_by_call());
            Ok(OutFence::ByCall)
        };
        Fake { jobs, ..Fake::new(answer) }
    }

    pub fn waits(self, wait: Wait) -> Fake {
        Fake { wait, ..self }
    }

    pub fn of_family(self, family: usize) -> Fake {
        Fake { family, ..self }
    }

    pub fn independent(self) -> Fake {
        Fake { independent_rings: true, ..self }
    }

    pub fn ran(&self) -> Vec<u64> {
        self.jobs.lock().unwrap().ran.clone()
    }

    /// The oldest job's fence.
    pub fn next(&self) -> FenceByCall {
        self.jobs.lock().unwrap().by_call.remove(0)
    }
}

impl Driver for Fake {
    fn wait(&self) -> Wait {
        self.wait
    }

    fn independent_rings(&self) -> bool {
        self.independent_rings
    }

    fn family(&self) -> usize {
        self.family
    }

    fn submit(&self, job: &Job<'_>) -> Result<OutFence> {
        {
            let mut jobs = self.jobs.lock().unwrap();
            jobs.ran.push(job.name().fence_id);
            jobs.commands.push(job.command().to_vec());
            jobs.in_fences.push(job.in_fences().count());
        }
        (self.answer)(job)
    }

    fn destroy(&self, cancelled: bool) {
        assert_eq!(self.jobs.lock().unwrap().destroyed.replace(cancelled), None);
    }
}

pub fn name(ctx_id: u32, fence_id: u64) -> FenceName {
    FenceName { fence_id, ctx_id, ring: Ring::Index(0) }
}

pub fn submit(device: &Device, ctx_id: u32, fence_id: u64, in_fences: &[u64]) -> Submitted {
    let work = Submission::new(name(ctx_id, fence_id), Flags::FENCED | Flags::SHAREABLE);
    device.submit(&Submission { in_fences, ..work })
}

/// A fence, and what signals it.
pub fn fence() -> (OwnedFd, UnixStream) {
    let (ours, other) = UnixStream::pair().unwrap();
    (ours.into(), other)
}

pub fn write(mut signal: &UnixStream) {
    signal.write_all(b"x").unwrap();
}

/// A fence that has signalled.
pub fn signalled() -> (OwnedFd, UnixStream) {
    let (fence, signal) = fence();
    write(&signal);
    (fence, signal)
}

pub fn is_open(fd: &OwnedFd) -> bool {
    fd.as_fd().try_clone_to_owned().is_ok()
}

pub const EIO: Error = Error::new(5);
pub const EINVAL: Error = Error::new(22);
pub const EOPNOTSUPP: Error = Error::new(95);
pub const ECANCELED: Error = Error::new(125);
