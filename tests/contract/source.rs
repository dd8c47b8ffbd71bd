//! The files of the repository, and Rust source without what is not code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no source.
const SKIPPED: &[&str] = &["target", "work"];

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// All files below a directory, or the one file, with one of these extensions.
pub fn files(below: &str, extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    collect(&root().join(below), extensions, &mut found);
    found.sort();
    let read = |path: PathBuf| File {
        text: fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        path: relative(&path),
    };
    found.into_iter().map(read).collect()
}

fn relative(path: &Path) -> String {
    let below = path.strip_prefix(root()).expect("found below the root");
    below.to_string_lossy().replace('\\', "/")
}

fn collect(path: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    if path.is_file() {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        if extensions.contains(&&*extension) {
            found.push(path.to_owned());
        }
        return;
    }
    for entry in fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
        let entry = entry.expect("an entry of the directory").path();
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && !SKIPPED.contains(&&*name) {
            collect(&entry, extensions, found);
        }
    }
}

/// Rust source without comments and without the tests at its end.
pub fn code(text: &str) -> String {
    let body = match text.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => &text[..tests],
        None => text,
    };
    let line = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    body.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether this may be part of a name.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name that a text begins with.
pub fn word(text: &str) -> &str {
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    &text[..end]
}

/// What follows each `prefix::`: a name, or the names in braces.
pub fn names_behind(text: &str, prefix: &str) -> BTreeSet<String> {
    let start = format!("{prefix}::");
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(&start) {
        if text[..at].ends_with(|c| is_word(c) || c == ':') {
            continue;
        }
        let rest = &text[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(members(group)),
            None => names.extend(Some(word(rest).to_owned()).filter(|name| !name.is_empty())),
        }
    }
    names
}

/// The first names of a group of imports, from behind its brace on.
fn members(group: &str) -> impl Iterator<Item = String> {
    let mut depth = 0;
    let mut outer = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            c if depth == 0 => outer.push(c),
            _ => {}
        }
    }
    let names: Vec<_> = outer
        .split(',')
        .map(|member| word(member.trim()).to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    names.into_iter()
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::a::{b, c};\nuse crate::{\n  d::{e, f},\n  g,\n};\ncrate::h::i(); // crate::j\nmycrate::k;\n\
                #[cfg(test)]\nmod tests {\n  use crate::l;\n}\n";
    let names: Vec<_> = names_behind(&code(text), "crate").into_iter().collect();
    assert_eq!(names, ["a", "d", "g", "h"]);
}
