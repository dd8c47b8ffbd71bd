//! Records for the program which compiler made it: instruction counts hold for one compiler only.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").expect("cargo names the compiler");
    let output = Command::new(rustc).arg("--version").output();
    let version = output.map_or_else(
        |error| panic!("cannot ask the compiler for its version: {error}"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    println!("cargo::rustc-env=COLO_BENCH_RUSTC={version}");
    println!("cargo::rerun-if-changed=build.rs");
}
