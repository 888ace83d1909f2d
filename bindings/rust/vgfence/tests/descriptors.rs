// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Every descriptor is closed once: counted in a process that runs nothing else meanwhile.

mod common;

use std::fs;
use std::os::unix::io::OwnedFd;
use std::sync::Mutex;

use common::*;
use vgfence::{Flags, OutFence, Submission};

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn round() {
    let vmm = Vmm::default();
    let mut device = vmm.device();
    let signals = Mutex::new(Vec::new());
    let keep = std::sync::Arc::new(signals);
    let kept = keep.clone();
    let gpu = Fake::new(move |_| {
        let (fence, signal) = fence();
        kept.lock().unwrap().push(signal);
        Ok(OutFence::Fd(fence))
    });
    device.create_context(1, gpu).unwrap();
    for id in 1..=8 {
        submit(&device, 1, id, &[]).result.unwrap();
    }
    // Not fenced: the descriptor is closed unused.
    device.submit(&Submission::new(name(1, 0), Flags::NONE)).result.unwrap();
    let exported: Vec<OwnedFd> =
        (1..=8).map(|id| device.export_fence(0, id).unwrap().unwrap()).collect();
    for signal in keep.lock().unwrap().iter().take(4) {
        write(signal);
    }
    device.dispatch(LONG).unwrap();
    // Not taken: closed by whoever drops the error.
    let ((first, _signal), (second, _other)) = (fence(), fence());
    device.create_fence(name(1, 3), Flags::NONE, 0, first).unwrap_err();
    let by_call = device.create_fence_by_call(name(1, 20), Flags::NONE, 0).unwrap();
    let not_polled = fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    let not_published = by_call.publish(not_polled.into()).unwrap_err();
    assert!(is_open(&not_published.fd));
    not_published.fence.publish(second).unwrap();
    drop(exported);
    device.reset().unwrap();
    assert_eq!(vmm.ids().len(), 9);
}

#[test]
fn no_descriptor_is_left() {
    round(); // the table grows once
    let before = open_descriptors();
    for _ in 0..20 {
        round();
    }
    assert_eq!(open_descriptors(), before);
    // The control: one that is left is seen.
    let _left = fence();
    assert_eq!(open_descriptors(), before + 2);
}
