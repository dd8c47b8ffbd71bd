//! The page of the rules: each rule that is cited is there, with files and tests that exist.

use std::collections::BTreeSet;

use super::source::{File, files, is_word, root, word};

const PAGE: &str = "docs/rules.md";

/// Where rules are cited.
const CITING: &[&str] = &[
    "src",
    "tests",
    "audit",
    "bench",
    "lab",
    "fuzz",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

/// Parts that each rule has.
const PARTS: [&str; 4] = ["**Rule.**", "**Reason.**", "**Kept in**", "**Tests:**"];

/// A rule of the page: its name and its paragraphs.
struct Rule<'a> {
    name: &'a str,
    paragraphs: Vec<&'a str>,
}

impl Rule<'_> {
    /// What stands in backticks in the paragraph that begins so.
    fn quoted(&self, part: &str) -> Vec<&str> {
        let paragraph = self.paragraphs.iter().find(|p| p.starts_with(part));
        let paragraph = paragraph.unwrap_or_else(|| panic!("{} has no {part}", self.name));
        paragraph.split('`').skip(1).step_by(2).collect()
    }
}

fn rules(page: &str) -> Vec<Rule<'_>> {
    let sections = page.split("\n## ").skip(1);
    let rule = |section| {
        let name = word(section);
        is_rule(name).then(|| Rule {
            name,
            paragraphs: section.split("\n\n").collect(),
        })
    };
    sections.filter_map(rule).collect()
}

/// Whether a word is the name of a rule: R and a number.
fn is_rule(word: &str) -> bool {
    word.strip_prefix('R')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn page() -> String {
    std::fs::read_to_string(root().join(PAGE)).expect(PAGE)
}

/// All Rust code, the tests included.
fn sources() -> Vec<File> {
    ["src", "tests", "audit", "bench", "lab"]
        .iter()
        .flat_map(|below| files(below, &["rs"]))
        .collect()
}

#[test]
fn every_rule_that_is_cited_is_on_the_page() {
    let page = page();
    let known: BTreeSet<_> = rules(&page).iter().map(|rule| rule.name).collect();
    assert!(known.len() >= 10, "{known:?}");
    for below in CITING {
        for file in files(below, &["rs", "md"]) {
            let cited = file.text.split(|c| !is_word(c)).filter(|w| is_rule(w));
            for rule in cited {
                assert!(known.contains(rule), "{}: no {rule} in {PAGE}", file.path);
            }
        }
    }
}

#[test]
fn every_rule_has_its_parts_and_the_files_that_it_names() {
    let page = page();
    for rule in rules(&page) {
        for part in PARTS {
            rule.quoted(part);
        }
        let (paths, names): (Vec<_>, Vec<_>) = rule
            .quoted("**Kept in**")
            .into_iter()
            .partition(|quoted| quoted.contains('/'));
        let mut text = String::new();
        for path in paths {
            assert!(root().join(path).exists(), "{}: no {path}", rule.name);
            text.extend(files(path, &["rs"]).into_iter().map(|file| file.text));
        }
        for name in names.into_iter().filter(|name| name.chars().all(is_word)) {
            assert!(
                text.split(|c| !is_word(c)).any(|w| w == name),
                "{}: {name} is in none of the files that are named",
                rule.name
            );
        }
    }
}

#[test]
fn every_rule_has_tests_that_exist() {
    let page = page();
    let tests: BTreeSet<_> = sources()
        .iter()
        .flat_map(|file| tests(&file.text))
        .collect();
    for rule in rules(&page) {
        let named = rule.quoted("**Tests:**");
        assert!(!named.is_empty(), "{} has no test", rule.name);
        for test in named {
            assert!(tests.contains(test), "{}: no test {test}", rule.name);
        }
    }
}

/// Names of at least four words that stand in documents and are no functions of this project: the metrics, which
/// `counters.rs` compares with the code, and functions of QEMU.
const NO_FUNCTIONS: [&str; 2] = ["colo_", "virtio_net_"];

/// Whether a word looks like the name of a test: four words or more in lower case.
fn is_test_name(word: &str) -> bool {
    let part = |part: &str| {
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        !part.is_empty() && part.bytes().all(lower)
    };
    let foreign = NO_FUNCTIONS.iter().any(|begin| word.starts_with(begin));
    !foreign && word.split('_').count() >= 4 && word.split('_').all(part)
}

#[test]
fn tests_that_documents_name_exist() {
    let functions: BTreeSet<String> = [
        "src", "tests", "audit", "bench", "lab", "coloctl", "doctor", "fuzz",
    ]
    .iter()
    .flat_map(|below| files(below, &["rs"]))
    .flat_map(|file| functions(&file.text))
    .collect();
    let (mut named, mut faults) = (0, Vec::new());
    for page in files("docs", &["md"]) {
        for (at, line) in page.text.lines().enumerate() {
            let quoted = line.split('`').skip(1).step_by(2);
            let names = quoted.filter_map(|path| path.rsplit("::").next());
            for name in names.filter(|name| is_test_name(name)) {
                named += 1;
                if !functions.contains(name) {
                    faults.push(format!("{}:{}: no function {name}", page.path, at + 1));
                }
            }
        }
    }
    assert!(named > 100, "only {named} names were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The names of the functions of a file.
fn functions(text: &str) -> Vec<String> {
    let behind = text.split("fn ").skip(1);
    behind.map(|rest| word(rest).to_owned()).collect()
}

/// The names of the tests of a file.
fn tests(text: &str) -> Vec<String> {
    let behind = text.split("#[test]").skip(1);
    let name = |rest: &str| {
        let at = rest.find("fn ")?;
        Some(word(&rest[at + 3..]).to_owned())
    };
    behind.filter_map(name).collect()
}
