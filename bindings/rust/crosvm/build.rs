// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! The tests have a double in virglrenderer's place, tests/virgl_double.c, which meson builds.

use std::env;

fn main() {
    println!("cargo:rerun-if-env-changed=VGFENCE_TESTS");
    println!("cargo:rerun-if-changed=build.rs");
    let folder = env::var("VGFENCE_TESTS").expect("VGFENCE_TESTS: where libvirgl_double.so is");
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-lib=dylib=virgl_double");
}
