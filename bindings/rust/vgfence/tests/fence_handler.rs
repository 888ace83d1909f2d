// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! The example runs recorded traffic, and its check finds what is wrong.

#[path = "../examples/fence_handler.rs"]
mod fence_handler;

use std::sync::{Arc, Mutex};

use fence_handler::{check, read_trace, replay, Component, Fence, Gpu, GpuEvent, Request};

/// Jobs and in-fences are those of `tests/data/traces/README.md`.
fn runs(name: &str, jobs: usize, in_fences: usize) {
    let requests = trace(name);
    let (completed, log) = replay(&requests).unwrap();
    let summary = check(&requests, &completed, &log).unwrap();
    assert_eq!((summary.jobs, summary.in_fences), (jobs, in_fences));
    assert!(summary.fences >= jobs);
}

fn trace(name: &str) -> Vec<Request> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/data/traces");
    read_trace(&format!("{folder}/{name}.vgtrace")).unwrap()
}

#[test]
fn the_storm_with_fence_passing() {
    runs("storm-passing", 1000, 230);
}

#[test]
fn the_storm_of_a_guest_that_waits() {
    runs("storm-guestwait", 1000, 0);
}

#[test]
fn a_chain_between_contexts() {
    runs("chain-passing", 400, 399);
}

#[test]
fn contexts_that_end_with_work_in_flight() {
    runs("teardown-passing", 240, 120);
}

#[test]
fn a_request_that_is_refused_is_answered_once() {
    let completed = Arc::new(Mutex::new(Vec::new()));
    let answers = completed.clone();
    let handler = Arc::new(move |fence: Fence| answers.lock().unwrap().push(fence.fence_id));
    let component = Component::new(handler, Arc::new(Gpu::default())).unwrap();
    component.create_context(1).unwrap();
    let fence = Fence { fence_id: 1, ctx_id: 1, ring_idx: Some(0), shareable: true };
    component.submit_command(fence, &[], &[77]).unwrap(); // there is no fence 77
    component.event_poll().unwrap();
    assert_eq!(*completed.lock().unwrap(), [1]);
    component.submit_command(fence, &[], &[]).unwrap_err(); // an ID that has no place any more
    drop(component);
    assert_eq!(*completed.lock().unwrap(), [1]);
}

#[test]
fn what_is_wrong_is_found() {
    let requests = trace("frames-passing");
    let (completed, log) = replay(&requests).unwrap();
    let summary = check(&requests, &completed, &log).unwrap();
    assert_eq!((summary.jobs, summary.in_fences), (600, 798));
    // Each spoiled in one way.
    let mut twice = completed.clone();
    twice.push(completed[0]);
    check(&requests, &twice, &log).unwrap_err();
    check(&requests, &completed[1..], &log).unwrap_err();
    let mut swapped = completed.clone();
    let ring = |i: usize| (completed[i].ctx_id, completed[i].ring_idx);
    let other = (1..completed.len()).find(|&i| ring(i) == ring(0)).unwrap();
    swapped.swap(0, other);
    check(&requests, &swapped, &log).unwrap_err();
    check(&requests, &completed, &log[..log.len() - 1]).unwrap_err();
    let mut early: Vec<GpuEvent> = log;
    early.sort_by_key(|event| matches!(event, GpuEvent::Done(_)));
    check(&requests, &completed, &early).unwrap_err();
}
