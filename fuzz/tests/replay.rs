//! Every input of the corpora, on whatever compiler the project is built with.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use dpdk_colo_fuzz::TARGETS;

/// Inputs of one target, and bytes of all of its corpus.
const MOST: usize = 50;
const LARGEST: usize = 64 << 10;

#[test]
fn no_input_of_the_corpora_fails() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut failed = Vec::new();
    for (name, run) in TARGETS {
        let dir = corpus.join(name);
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry of the directory").path())
            .collect();
        paths.sort();
        let (mut inputs, mut bytes) = (0, 0);
        for path in paths {
            let data = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (inputs, bytes) = (inputs + 1, bytes + data.len());
            if catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                failed.push(path.display().to_string());
            }
        }
        assert!(inputs > 0, "{name} has no corpus");
        assert!(
            inputs <= MOST && bytes <= LARGEST,
            "{name}: {inputs} inputs, {bytes} bytes"
        );
        println!("{name}: {inputs} inputs, {bytes} bytes");
    }
    assert!(failed.is_empty(), "fail: {failed:#?}");
}

#[test]
fn every_target_is_a_program() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut programs: Vec<_> = fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    programs.sort();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(programs, names);
}
