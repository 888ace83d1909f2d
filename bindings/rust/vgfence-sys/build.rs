// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Finds the libraries with pkg-config. A build that is not installed has files for it, too: set
//! PKG_CONFIG_PATH to its folder meson-uninstalled.

use std::env;
use std::process::Command;

/// What the bindings have came with the crate's version; the ABI is of one minor version.
fn versions(package: &str) -> [String; 2] {
    let own = |part| env::var(format!("CARGO_PKG_VERSION{part}")).unwrap();
    let next = own("_MINOR").parse::<u32>().unwrap() + 1;
    [format!("{package} >= {}", own("")), format!("{package} < {}.{next}", own("_MAJOR"))]
}

fn link(package: &str) {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_string());
    let output = Command::new(&program)
        .arg("--libs")
        .args(versions(package))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    if !output.status.success() {
        panic!("{program} {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
        } else if let Some(library) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib=dylib={library}");
        }
    }
}

fn main() {
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_VIRGL").is_some() {
        link("vgfence-virgl");
    }
    link("vgfence");
}
