//! Which module may know which.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{code, files, names_behind, root, word};

/// Each module of the library and those that it may name. A module stands below all that it may name, so
/// that there is no circle. `tests` modules may name what they like.
const MODULES: &[(&str, &[&str])] = &[
    ("frame", &[]),
    ("error_chain", &[]),
    ("panics", &[]),
    ("dumps", &[]),
    ("proto", &[]),
    ("flow", &["proto"]),
    ("qmp", &[]),
    ("plan", &[]),
    ("packet", &["frame", "proto", "flow"]),
    ("compare", &["frame", "flow", "packet"]),
    ("spread", &["frame", "flow", "packet", "compare"]),
    ("rewrite", &["frame", "flow", "packet"]),
    ("link", &["frame", "flow", "packet"]),
    (
        "protect",
        &[
            "frame", "proto", "flow", "packet", "compare", "spread", "rewrite", "link",
        ],
    ),
    ("switch", &["proto"]),
    ("account", &["flow", "compare", "protect"]),
    ("config", &["qmp", "link", "switch"]),
    ("cli", &["config"]),
    ("bringup", &["qmp"]),
    (
        "observability",
        &["flow", "compare", "protect", "config", "cli"],
    ),
    ("control", &["protect", "config", "observability"]),
    (
        "pair",
        &[
            "frame",
            "flow",
            "packet",
            "compare",
            "rewrite",
            "link",
            "protect",
            "observability",
        ],
    ),
    ("dpdk", &["frame", "plan"]),
    (
        "node",
        &[
            "frame",
            "proto",
            "error_chain",
            "dumps",
            "flow",
            "qmp",
            "plan",
            "packet",
            "compare",
            "spread",
            "rewrite",
            "link",
            "protect",
            "account",
            "config",
            "cli",
            "bringup",
            "observability",
            "control",
            "pair",
            "switch",
            "dpdk",
        ],
    ),
];

/// The modules without DPDK, clock, thread and I/O: frames and time are arguments.
const PURE: &[&str] = &[
    "frame", "proto", "flow", "packet", "compare", "spread", "rewrite", "link", "protect",
    "account", "bringup", "control", "pair", "switch",
];

/// What a pure module does not use of the standard library.
const IMPURE_STD: &[&str] = &["env", "fs", "io", "os", "process", "thread", "time"];

/// Crates that a pure module does not use.
const IMPURE_CRATES: &[&str] = &[
    "core_affinity",
    "crossbeam_channel",
    "hdrhistogram",
    "libc",
    "rustix",
    "sd_notify",
    "signal_hook",
];

/// What the auditor may take from the library: it must not share the comparator's mistakes.
const AUDITOR: &[&str] = &["flow", "packet"];

/// The module of an item that the library gives out at its root.
fn home(name: &str) -> &str {
    match name {
        "Frame" | "Offload" | "Ticks" => "frame",
        other => other,
    }
}

/// The code of each module by its name, without that of `tests` modules.
fn modules() -> BTreeMap<String, Vec<(String, String)>> {
    let mut modules: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files("src", &["rs"]) {
        let inside = file.path.trim_start_matches("src/");
        let is_test = inside.contains("/tests/") || inside.ends_with("/tests.rs");
        if is_test || inside.starts_with("bin/") || matches!(inside, "lib.rs" | "main.rs") {
            continue;
        }
        let module = word(inside).to_owned();
        let text = code(&file.text);
        modules.entry(module).or_default().push((file.path, text));
    }
    modules
}

/// Modules of the library that a file names. `super` reaches them as well as `crate`.
fn named(path: &str, text: &str) -> BTreeSet<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let depth = inside.trim_end_matches("/mod").split('/').count();
    let up = vec!["super"; depth].join("::");
    let mut names = names_behind(text, "crate");
    names.extend(names_behind(text, &up));
    names.iter().map(|name| home(name).to_owned()).collect()
}

#[test]
fn every_module_is_declared_below_those_that_it_may_know() {
    let declared: Vec<_> = MODULES.iter().map(|(module, _)| *module).collect();
    let found: Vec<_> = modules().into_keys().collect();
    let mut sorted = declared.clone();
    sorted.sort_unstable();
    assert_eq!(
        found,
        sorted,
        "the modules of src, and those of the table in {}",
        file!()
    );
    for (at, (module, may)) in MODULES.iter().enumerate() {
        for known in *may {
            assert!(
                declared[..at].contains(known),
                "{module} may know {known}, which stands below it in the table"
            );
        }
    }
}

#[test]
fn modules_know_what_the_table_says_and_nothing_else() {
    let modules = modules();
    let mut faults = Vec::new();
    for (module, may) in MODULES {
        let mut unused: BTreeSet<&str> = may.iter().copied().collect();
        for (path, text) in modules.get(*module).into_iter().flatten() {
            for known in named(path, text) {
                if known != *module && !may.contains(&&*known) {
                    faults.push(format!("{path}: {module} must not know {known}"));
                }
                unused.remove(&*known);
            }
        }
        for known in unused {
            faults.push(format!("{module} may know {known} and does not"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn pure_modules_know_no_clock_thread_or_io() {
    let modules = modules();
    let mut faults = Vec::new();
    for module in PURE {
        for (path, text) in modules.get(*module).into_iter().flatten() {
            // A length of time is no clock.
            let std = names_behind(&text.replace("std::time::Duration", ""), "std");
            for impure in IMPURE_STD.iter().filter(|name| std.contains(**name)) {
                faults.push(format!("{path}: std::{impure}"));
            }
            for name in IMPURE_CRATES {
                if !names_behind(text, name).is_empty() {
                    faults.push(format!("{path}: {name}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// The words in backticks between two parts of a text.
fn quoted_between(text: &str, begin: &str, end: &str) -> BTreeSet<String> {
    let (_, rest) = text.split_once(begin).expect(begin);
    let (list, _) = rest.split_once(end).expect(end);
    let quoted = list.split('`').skip(1).step_by(2);
    quoted
        .map(|name| name.trim_start_matches("mod@").to_owned())
        .collect()
}

#[test]
fn documents_list_the_pure_modules() {
    let pure: BTreeSet<_> = PURE.iter().map(|module| (*module).to_owned()).collect();
    let architecture = text_of("docs/architecture.md");
    assert_eq!(quoted_between(&architecture, "Pure modules:", ". "), pure);
    let library = text_of("src/lib.rs");
    assert_eq!(quoted_between(&library, "modules (", ")"), pure);
}

#[test]
fn the_architecture_lists_each_module_and_each_file_of_protect() {
    let architecture = text_of("docs/architecture.md");
    for (module, _) in MODULES {
        let path = format!("`src/{module}");
        assert!(
            architecture.contains(&path),
            "docs/architecture.md has no {path}"
        );
    }
    for file in files("src/protect", &["rs"]) {
        let inside = file.path.trim_start_matches("src/protect/");
        let name = inside.trim_end_matches(".rs");
        if !name.contains('/') && name != "mod" {
            assert!(
                architecture.contains(&format!("`{inside}`")),
                "docs/architecture.md does not say what {} is",
                file.path
            );
        }
    }
}

#[test]
fn the_auditor_shares_nothing_with_the_comparator() {
    for file in files("audit/src", &["rs"]) {
        for known in names_behind(&code(&file.text), "dpdk_colo") {
            assert!(
                AUDITOR.contains(&&*known),
                "{}: the auditor must not know {known}",
                file.path
            );
        }
    }
}
