// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! What docs/integrating-crosvm.md changes, driven as crosvm's GPU worker does: one thread, and a
//! fence handler that answers requests. virglrenderer is a double, tests/virgl_double.c, which has
//! one state: so there is one test, of several steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crosvm_stand_in::*;
use vgfence_sys as _;

const MAX_IN_FENCES: usize = 8;

/// As far as it is needed of `struct virgl_double`.
#[repr(C)]
struct Double {
    submissions: [Submission; 256],
    num_submissions: u32,
}

#[repr(C)]
struct Submission {
    ctx_id: u32,
    word: u32,
    gl_context: u32,
    ids: [u64; MAX_IN_FENCES],
    num_ids: u32,
    attached_fds: [i32; MAX_IN_FENCES],
    num_attached: u32,
}

extern "C" {
    static the_double: Double;
    fn double_signal(fence_id: u64) -> bool;
    fn double_oldest(fence_id: *mut u64) -> bool;
    fn double_forget();
}

/// The first words of the command streams that virglrenderer has got.
fn ran() -> Vec<u32> {
    // SAFETY: one thread.
    unsafe {
        let count = the_double.num_submissions as usize;
        (0..count).map(|i| the_double.submissions[i].word).collect()
    }
}

fn signal(fence_id: u64) {
    assert!(unsafe { double_signal(fence_id) });
}

struct Worker {
    contexts: HashMap<u32, Box<dyn RutabagaContext>>,
    renderer: Box<VirglRenderer>,
    /// What the fence handler was called for.
    completed: Arc<Mutex<Vec<u64>>>,
    /// Answered at once.
    answered: Vec<(u64, bool)>,
}

const SHAREABLE: u32 =
    RUTABAGA_FLAG_FENCE | RUTABAGA_FLAG_INFO_RING_IDX | RUTABAGA_FLAG_FENCE_HOST_SHAREABLE;

fn fence(ctx_id: u32, fence_id: u64) -> RutabagaFence {
    RutabagaFence { flags: SHAREABLE, fence_id, ctx_id, ring_idx: 1 }
}

impl Worker {
    fn new() -> Worker {
        let completed = Arc::new(Mutex::new(Vec::new()));
        let answers = completed.clone();
        let handler = Arc::new(move |fence: RutabagaFence| {
            answers.lock().unwrap().push(fence.fence_id);
        });
        let renderer = VirglRenderer::init(handler).unwrap();
        let mut contexts = HashMap::new();
        for ctx_id in [1, 2] {
            contexts.insert(ctx_id, renderer.create_context(ctx_id).unwrap());
        }
        Worker { contexts, renderer, completed, answered: Vec::new() }
    }

    fn submit(&mut self, ctx_id: u32, fence_id: u64, in_fences: &[u64]) {
        let context = self.contexts.get_mut(&ctx_id).unwrap();
        let mut words = [fence_id as u32];
        // SAFETY: bytes have no alignment; virglrenderer wants that of words.
        let (_, commands, _) = unsafe { words.align_to_mut() };
        let answer = context.submit_cmd(commands, in_fences, fence(ctx_id, fence_id));
        match answer {
            Ok(true) => {}
            Ok(false) => self.answered.push((fence_id, true)),
            Err(_) => self.answered.push((fence_id, false)),
        }
    }

    fn completed(&self) -> Vec<u64> {
        for _ in 0..4 {
            self.renderer.event_poll();
        }
        self.completed.lock().unwrap().clone()
    }
}

#[test]
fn the_worker_with_vgfence() {
    let mut worker = Worker::new();
    assert!(worker.renderer.poll_descriptor().is_some());

    // A submission is held behind its in-fence, and the handler is called for each.
    worker.submit(1, 1, &[]);
    worker.submit(2, 2, &[1]);
    assert_eq!(worker.completed(), []);
    assert_eq!(ran(), [1]);
    signal(1);
    assert_eq!(worker.completed(), [1]);
    assert_eq!(ran(), [1, 2]);
    signal(2);
    assert_eq!(worker.completed(), [1, 2]);

    // The control: without the in-fence it is not held.
    worker.submit(1, 3, &[]);
    worker.submit(2, 4, &[]);
    assert_eq!(ran(), [1, 2, 3, 4]);
    signal(4);
    assert_eq!(worker.completed(), [1, 2, 4]);
    signal(3);
    assert_eq!(worker.completed(), [1, 2, 4, 3]);

    // An error keeps its place: there is no fence 77.
    worker.submit(1, 5, &[]);
    worker.submit(1, 6, &[77]);
    assert_eq!(worker.completed().len(), 4);
    signal(5);
    assert_eq!(worker.completed()[4..], [5, 6]);
    assert_eq!(worker.answered, []);

    // An ID that does not grow has no place, and is answered at once.
    worker.submit(1, 5, &[]);
    assert_eq!(worker.answered, [(5, false)]);

    // Fences of other commands come behind work that is held.
    worker.submit(1, 7, &[]);
    worker.submit(2, 8, &[7]);
    worker.contexts.get_mut(&2).unwrap().context_create_fence(fence(2, 9)).unwrap();
    let global = RutabagaFence { flags: RUTABAGA_FLAG_FENCE, ..fence(2, 10) };
    worker.renderer.create_fence(global).unwrap();
    assert_eq!(worker.completed().len(), 6);
    signal(7);
    assert_eq!(worker.completed()[6..], [7]);
    for fence_id in [8, 9, 10] {
        unsafe { double_signal(fence_id) };
    }
    let mut last = worker.completed()[7..].to_vec();
    last.sort_unstable();
    assert_eq!(last, [8, 9, 10]);

    // write_fence has 32 bits of the ID, as the document says.
    let global = RutabagaFence { fence_id: 1 << 32 | 11, ..global };
    worker.renderer.create_fence(global).unwrap();
    let mut oldest = 0;
    assert!(unsafe { double_oldest(&mut oldest) });
    signal(oldest);
    assert_eq!(worker.completed()[10..], [11]);

    // What is pending at the end completes, too: when the last of them is dropped, in any order.
    worker.submit(1, 12, &[]);
    let Worker { contexts, renderer, completed, .. } = worker;
    drop(renderer);
    assert_eq!(completed.lock().unwrap().len(), 11);
    drop(contexts);
    assert_eq!(completed.lock().unwrap()[11..], [12]);
    unsafe { double_forget() };
}
