//! Expected texts in files: `tests/golden`.

use std::fs;
use std::path::Path;

/// Asserts that the file has this text. With `UPDATE_GOLDEN=1` in the environment it writes the file anew.
///
/// `test` is the test's target, as `cargo test --test` takes it.
///
/// # Panics
/// If the file differs or cannot be read. The message has the first line that differs, and the command that writes the
/// file anew.
#[track_caller]
pub fn assert_golden(path: &Path, found: &str, test: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found).expect("a writable source tree");
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if let Some(difference) = first_difference(&expected, found) {
        panic!(
            "{} differs, {difference}\nIf the new text is right: \
             UPDATE_GOLDEN=1 cargo test --no-default-features -p dpdk-colo --test {test}",
            path.display()
        );
    }
}

/// The first line that differs, with its number.
fn first_difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let (mut old, mut new) = (expected.lines(), found.lines());
    for number in 1.. {
        let (was, is) = (old.next(), new.next());
        if was != is || was.is_none() {
            let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
            return Some(format!(
                "line {number}\n  expected: {}\n  found:    {}",
                shown(was),
                shown(is)
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let shown = first_difference("a\nb\n", "a\nc\n").expect("a difference");
        assert!(shown.starts_with("line 2\n"), "{shown}");
        let shown = first_difference("a\n", "a\nc\n").expect("a difference");
        assert!(shown.contains("expected: (the end)"), "{shown}");
        assert!(first_difference("a", "a\n").is_some());
    }
}
