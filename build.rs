//! Compiles `entry/`, the one program of ours that runs inside containers, so that tenantd can carry it with it.
//!
//! It is linked statically: an image has another C library, or none. `rustc` is called directly, because cargo cannot
//! build a dependency that is a program for the same target with other flags.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "entry/src/main.rs";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed=build.rs");
    let of_cargo = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(of_cargo("OUT_DIR")).join("tenantd-entry");
    let status = Command::new(of_cargo("RUSTC"))
        .args(["--edition=2024", "--crate-name=tenantd_entry", source])
        .args(["--target", &of_cargo("TARGET"), "-o"])
        .arg(&program)
        .args(["-C", "target-feature=+crt-static"])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args([
            "-C",
            "codegen-units=1",
            "-C",
            "lto=fat",
            "-C",
            "embed-bitcode=yes",
        ])
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!(
            "{source} cannot be linked statically ({other:?}); install the C library's static files \
             (Debian: libc6-dev, Fedora: glibc-static)"
        ),
    }
}
