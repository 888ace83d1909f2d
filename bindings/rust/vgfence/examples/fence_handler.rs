// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! The fences of a VMM in the shape of crosvm's: a component of the GPU, whose `create_fence` and
//! `submit_command` name fences by ID, and a handler, a closure that is called when one has
//! completed, in order. It runs recorded guest traffic (`tests/data/traces`) on a GPU that is a
//! thread, and checks what the handler is called for.
//!
//!     cargo run --example fence_handler -- tests/data/traces/storm-passing.vgtrace

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::convert::TryInto;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vgfence::{
    Device, Driver, FenceByCall, FenceName, Flags, Job, Options, OutFence, Retired, Ring,
    Submission,
};

// ---- The VMM's side ------------------------------------------------------------------------

/// As the VMM names a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    pub fence_id: u64,
    pub ctx_id: u32,
    /// Without it the fence is on the global timeline.
    pub ring_idx: Option<u8>,
    pub shareable: bool,
}

/// Called once for each fence.
pub type FenceHandler = Arc<dyn Fn(Fence) + Send + Sync>;

/// The GPU, as the VMM has it.
pub struct Component {
    device: Device,
    gpu: Arc<Gpu>,
}

impl Fence {
    fn name(&self) -> (FenceName, Flags) {
        let ring = self.ring_idx.map_or(Ring::Global, Ring::Index);
        let shareable = if self.shareable { Flags::SHAREABLE } else { Flags::NONE };
        let name = FenceName { fence_id: self.fence_id, ctx_id: self.ctx_id, ring };
        (name, Flags::FENCED | shareable)
    }

    fn completed(retired: &Retired) -> Fence {
        let FenceName { fence_id, ctx_id, ring } = retired.fence;
        let ring_idx = match ring {
            Ring::Global => None,
            Ring::Index(index) => Some(index),
        };
        // The handler knows it by these; whether it is shareable is the guest's business.
        Fence { fence_id, ctx_id, ring_idx, shareable: false }
    }
}

impl Component {
    pub fn new(handler: FenceHandler, gpu: Arc<Gpu>) -> vgfence::Result<Component> {
        let retire = move |retired: &Retired| handler(Fence::completed(retired));
        Ok(Component { device: Device::new(retire, &Options::default())?, gpu })
    }

    pub fn create_context(&self, ctx_id: u32) -> vgfence::Result<()> {
        self.device.create_context(ctx_id, Context(self.gpu.clone()))
    }

    pub fn destroy_context(&self, ctx_id: u32) -> vgfence::Result<()> {
        self.device.destroy_context(ctx_id).map(|_| ())
    }

    /// The fence of a command that is done.
    pub fn create_fence(&self, fence: Fence) -> vgfence::Result<()> {
        let (name, flags) = fence.name();
        self.device.create_done_fence(name, flags, 0)
    }

    /// SUBMIT_3D, with its fence and what it waits for. After an error the handler is not called:
    /// the VMM answers at once.
    pub fn submit_command(
        &self,
        fence: Fence,
        command: &[u8],
        in_fences: &[u64],
    ) -> vgfence::Result<()> {
        let (name, flags) = fence.name();
        let work = Submission { command, in_fences, ..Submission::new(name, flags) };
        let submitted = self.device.submit(&work);
        if submitted.will_retire {
            return Ok(()); // also what is refused, in its place
        }
        submitted.result.map(|_| ())
    }

    /// Where a VMM would poll the descriptor among its others.
    pub fn event_poll(&self) -> vgfence::Result<()> {
        self.device.dispatch(Some(Duration::from_secs(30))).map(|_| ())
    }
}

// ---- A GPU ---------------------------------------------------------------------------------

/// A job that runs: when it ends, and what is to be signalled then.
struct Running {
    end: Instant,
    number: u64, // of the same time, in order
    name: FenceName,
    fence: FenceByCall,
}

impl PartialEq for Running {
    fn eq(&self, other: &Running) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Running {}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Running) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Running {
    fn cmp(&self, other: &Running) -> std::cmp::Ordering {
        (self.end, self.number).cmp(&(other.end, other.number))
    }
}

#[derive(Default)]
struct Rings {
    running: BinaryHeap<Reverse<Running>>,
    free: HashMap<(u32, Ring), Instant>,
    taken: u64,
    ended: bool,
    /// In order, with what was done before each began.
    log: Vec<GpuEvent>,
}

/// What the GPU did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuEvent {
    Began(u64),
    Done(u64),
}

/// Its rings keep busy for as long as the command streams say. Jobs of one ring run one after the
/// other.
#[derive(Default)]
pub struct Gpu {
    rings: Mutex<Rings>,
    changed: Condvar,
}

fn busy_time(command: &[u8]) -> Duration {
    let words: Vec<u32> =
        command.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    let busy = words.chunks_exact(2).filter(|pair| pair[0] == 1).map(|pair| u64::from(pair[1]));
    Duration::from_micros(busy.sum())
}

impl Gpu {
    pub fn start(self: &Arc<Gpu>) -> JoinHandle<()> {
        let gpu = self.clone();
        thread::spawn(move || gpu.run())
    }

    pub fn end(&self) {
        self.rings.lock().unwrap().ended = true;
        self.changed.notify_all();
    }

    pub fn log(&self) -> Vec<GpuEvent> {
        self.rings.lock().unwrap().log.clone()
    }

    fn take(&self, job: &Job<'_>) {
        let (name, fence) = (job.name(), job.fence_by_call());
        let mut rings = self.rings.lock().unwrap();
        rings.log.push(GpuEvent::Began(name.fence_id));
        let ring = (name.ctx_id, name.ring);
        let now = Instant::now();
        let start = rings.free.get(&ring).map_or(now, |&free| free.max(now));
        let end = start + busy_time(job.command());
        rings.free.insert(ring, end);
        rings.taken += 1;
        let number = rings.taken;
        rings.running.push(Reverse(Running { end, number, name, fence }));
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut rings = self.rings.lock().unwrap();
        while !(rings.ended && rings.running.is_empty()) {
            let now = Instant::now();
            match rings.running.peek().map(|Reverse(next)| next.end) {
                None => rings = self.changed.wait(rings).unwrap(),
                Some(end) if end > now => {
                    rings = self.changed.wait_timeout(rings, end - now).unwrap().0;
                }
                Some(_) => {
                    let Running { name, fence, .. } = rings.running.pop().unwrap().0;
                    rings.log.push(GpuEvent::Done(name.fence_id));
                    drop(rings);
                    // It may have been given up; nobody is interested then.
                    let _ = fence.signal(Ok(()));
                    rings = self.rings.lock().unwrap();
                }
            }
        }
    }
}

struct Context(Arc<Gpu>);

impl Driver for Context {
    fn independent_rings(&self) -> bool {
        true
    }

    fn submit(&self, job: &Job<'_>) -> vgfence::Result<OutFence> {
        self.0.take(job);
        Ok(OutFence::ByCall)
    }
}

// ---- The recorded guest --------------------------------------------------------------------

/// A request of the guest.
#[derive(Debug)]
pub struct Request {
    kind: u32,
    ctx_id: u32,
    fence: Option<Fence>,
    in_fences: Vec<u64>,
    command: Vec<u8>,
}

const CTX_CREATE: u32 = 0x0200;
const CTX_DESTROY: u32 = 0x0201;
const SUBMIT_3D: u32 = 0x0207;
const REQUEST: u32 = 1;

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn read_request(data: &[u8]) -> Request {
    let (kind, flags, ctx_id) = (le32(data, 0), le32(data, 4), le32(data, 16));
    let fence = Fence {
        fence_id: le64(data, 8),
        ctx_id,
        ring_idx: (flags & 2 != 0).then(|| data[20]),
        shareable: flags & 4 != 0,
    };
    let (mut in_fences, mut command) = (Vec::new(), Vec::new());
    if kind == SUBMIT_3D {
        // Without fence passing the count is padding, and no fence is shareable.
        let count = if fence.shareable { le32(data, 28) as usize } else { 0 };
        in_fences = (0..count).map(|i| le64(data, 32 + 8 * i)).collect();
        command = data[32 + 8 * count..].to_vec();
    }
    Request { kind, ctx_id, fence: (flags & 1 != 0).then_some(fence), in_fences, command }
}

/// The requests of a trace, in order.
pub fn read_trace(path: &str) -> std::io::Result<Vec<Request>> {
    let bytes = std::fs::read(path)?;
    assert_eq!(&bytes[..8], b"VGTRACE1", "{path} is no trace");
    let (mut at, mut requests) = (16, Vec::new());
    while at < bytes.len() {
        let (kind, size) = (le32(&bytes, at + 8), le32(&bytes, at + 20) as usize);
        let data = &bytes[at + 24..at + 24 + size];
        if kind == REQUEST {
            requests.push(read_request(data));
        }
        at += 24 + size;
    }
    Ok(requests)
}

// ---- What is to be so ----------------------------------------------------------------------

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    pub fences: usize,
    pub timelines: usize,
    pub jobs: usize,
    pub in_fences: usize,
}

type Timeline = Option<(u32, u8)>;

fn timeline(fence: Fence) -> Timeline {
    fence.ring_idx.map(|ring_idx| (fence.ctx_id, ring_idx))
}

/// Each fence has completed once, in the order of its timeline, and no job has begun before what it
/// waits for was done. From the guest's bytes, the handler's calls and the GPU's log alone.
pub fn check(
    requests: &[Request],
    completed: &[Fence],
    log: &[GpuEvent],
) -> Result<Summary, String> {
    let mut expected: HashMap<Timeline, Vec<u64>> = HashMap::new();
    let mut waits = HashMap::new();
    for request in requests {
        if let Some(fence) = request.fence {
            expected.entry(timeline(fence)).or_default().push(fence.fence_id);
            if request.kind == SUBMIT_3D {
                waits.insert(fence.fence_id, &request.in_fences);
            }
        }
    }
    let mut seen: HashMap<Timeline, Vec<u64>> = HashMap::new();
    for &fence in completed {
        seen.entry(timeline(fence)).or_default().push(fence.fence_id);
    }
    if seen != expected {
        return Err("the handler was not called once for each fence, in order".to_string());
    }
    let (mut done, mut began) = (HashSet::new(), HashSet::new());
    for event in log {
        match *event {
            GpuEvent::Done(id) => {
                done.insert(id);
            }
            GpuEvent::Began(id) => {
                let is_job = |id: &u64| waits.contains_key(id);
                let in_fences = waits.get(&id).ok_or(format!("job {id} is not the guest's"))?;
                if !in_fences.iter().filter(|id| is_job(id)).all(|id| done.contains(id)) {
                    return Err(format!("job {id} began before what it waits for"));
                }
                if !began.insert(id) {
                    return Err(format!("job {id} ran twice"));
                }
            }
        }
    }
    if began.len() != waits.len() || done.len() != waits.len() {
        return Err(format!("{} of {} jobs ran", done.len(), waits.len()));
    }
    Ok(Summary {
        fences: completed.len(),
        timelines: expected.len(),
        jobs: waits.len(),
        in_fences: waits.values().map(|in_fences| in_fences.len()).sum(),
    })
}

// ---- All of it -----------------------------------------------------------------------------

const WINDOW: usize = 256; // requests in flight: a virtqueue's size

/// What the handler was called for, and what the GPU did.
pub fn replay(requests: &[Request]) -> vgfence::Result<(Vec<Fence>, Vec<GpuEvent>)> {
    let completed = Arc::new(Mutex::new(Vec::new()));
    let answers = completed.clone();
    let gpu = Arc::new(Gpu::default());
    let thread = gpu.start();
    let handler: FenceHandler = Arc::new(move |fence| answers.lock().unwrap().push(fence));
    let component = Component::new(handler, gpu.clone())?;
    let mut sent = 0;
    for request in requests {
        while sent - completed.lock().unwrap().len() >= WINDOW {
            component.event_poll()?;
        }
        match (request.kind, request.fence) {
            (CTX_CREATE, _) => component.create_context(request.ctx_id)?,
            (CTX_DESTROY, _) => component.destroy_context(request.ctx_id)?,
            (SUBMIT_3D, Some(fence)) => {
                component.submit_command(fence, &request.command, &request.in_fences)?;
            }
            _ => {}
        }
        if let Some(fence) = request.fence {
            sent += 1;
            if request.kind != SUBMIT_3D {
                component.create_fence(fence)?;
            }
        }
    }
    while completed.lock().unwrap().len() < sent {
        component.event_poll()?;
    }
    drop(component);
    gpu.end();
    thread.join().unwrap();
    let completed = completed.lock().unwrap().clone();
    Ok((completed, gpu.log()))
}

#[allow(dead_code)] // a test has all but this
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let requests = read_trace(&path)?;
        let (completed, log) = replay(&requests)?;
        let Summary { fences, timelines, jobs, in_fences } = check(&requests, &completed, &log)?;
        println!("{path}: {jobs} jobs, {in_fences} in-fences: {fences} fences");
        println!(
            "each completed once, in the order of its timeline, of which there are {timelines}"
        );
    }
    Ok(())
}
