// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! The functions of libvgfence as they are in C. The headers say what each does, who owns what, and
//! which threads may call it. The crate `vgfence` is the same in safe Rust.
//!
//! `core.rs` and `virgl.rs` are made by bindgen; `scripts/rust-bindings` makes them, and compares
//! them with the headers. What bindgen leaves out is here.

#![allow(non_camel_case_types)]

mod core;
pub use crate::core::*;

#[cfg(feature = "virgl")]
mod virgl;
#[cfg(feature = "virgl")]
pub use crate::virgl::*;

use std::os::raw::{c_int, c_void};

/// In place of the ID of an in-fence that the VMM gave as a descriptor. No fence has this ID.
pub const VGF_NO_FENCE_ID: u64 = u64::MAX;

/// Whether vgfence submits the job again after this error of the driver's submit: the job has
/// in-fences, with or without a descriptor, and the error says that the driver cannot take them.
///
/// # Safety
/// `job` is one that a driver got, during its submit.
pub unsafe fn vgf_job_runs_again(job: *const vgf_job, error: c_int) -> bool {
    let in_fences = (*job).num_in_fences > 0 || (*job).num_family_fences > 0;
    let errors = [EMFILE, ENFILE, ENOMEM, EOPNOTSUPP];
    in_fences && errors.iter().any(|&errno| error == -(errno as c_int))
}

extern "C" {
    /// libc's, for what `vgf_device_save` and `vgf_device_dump` allocate.
    pub fn free(memory: *mut c_void);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_with_in_fences_of_either_kind_runs_again() {
        let without = vgf_job::default();
        let in_fences = vgf_job { num_in_fences: 1, ..without };
        let family_fences = vgf_job { num_family_fences: 1, ..without };
        for errno in [EMFILE, ENFILE, ENOMEM, EOPNOTSUPP, EIO] {
            // SAFETY: only the numbers are read.
            let runs_again = |job| unsafe { vgf_job_runs_again(job, -(errno as c_int)) };
            assert!(!runs_again(&without));
            assert_eq!(runs_again(&in_fences), errno != EIO);
            assert_eq!(runs_again(&family_fences), errno != EIO);
        }
    }
}
