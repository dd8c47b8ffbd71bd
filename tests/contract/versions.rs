//! The releases of Rust and DPDK that are supported: the same in what builds, installs and checks.

use std::fs;

use super::source::root;

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What stands between two texts, first found.
fn between<'a>(text: &'a str, before: &str, behind: &str) -> &'a str {
    let from = text.find(before).unwrap_or_else(|| panic!("no {before:?}")) + before.len();
    let len = text[from..].find(behind).expect(behind);
    &text[from..from + len]
}

#[test]
fn the_oldest_rust_is_the_same_everywhere() {
    let manifest = text("Cargo.toml");
    let rust = between(&manifest, "rust-version = \"", "\"");
    let script = text("scripts/install-packages");
    assert_eq!(between(&script, "least_cargo=", "\n"), rust);
    let workflow = text(".github/workflows/check.yml");
    assert_eq!(between(&workflow, "rust: [\"", "\""), rust);
    assert!(text("README.md").contains(rust), "README.md");
}

#[test]
fn the_rust_whose_warnings_fail_lints() {
    let makefile = text("Makefile");
    let linted = between(&makefile, "LINTED = ", "\n");
    let workflow = text(".github/workflows/check.yml");
    assert_eq!(between(&workflow, "container: rust:", "-"), linted);
}

#[test]
fn each_release_of_dpdk_is_built() {
    let script = text("scripts/dpdk-matrix");
    let lines = between(&script, "releases=(\n", "\n)").lines();
    let releases: Vec<_> = lines
        .map(|line| {
            let mut words = line.trim().trim_matches('"').split(' ');
            (words.next().expect("release"), words.next().expect("suite"))
        })
        .collect();
    assert!(!releases.is_empty());
    let workflow = text(".github/workflows/check.yml");
    let documents = [text("CONTRIBUTING.md"), text("README.md")];
    for (release, suite) in &releases {
        let row = format!("{{ dpdk: \"{release}\", suite: {suite} }}");
        assert!(workflow.contains(&row), "no {row}");
        for document in &documents {
            assert!(document.contains(release), "a document lacks {release}");
        }
    }
    assert_eq!(workflow.matches("{ dpdk: ").count(), releases.len());
}

#[test]
fn the_debian_package_has_the_version_of_the_program() {
    let manifest = text("Cargo.toml");
    let version = between(&manifest, "version = \"", "\"");
    let changelog = text("debian/changelog");
    assert_eq!(between(&changelog, "dpdk-colo (", ")"), version);
}
