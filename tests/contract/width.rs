//! Lines of documents fit a window beside another: prose has at most 120 columns. Tables, diagrams and commands may be
//! wider, since nobody can wrap them.

use super::source::files;

/// The columns of a line of prose.
const COLUMNS: usize = 120;

/// The lines of a document, counted from 1, that are too long and are prose. A diagram or command is fenced, or indented
/// by four behind an empty line.
fn too_long(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let (mut fenced, mut indented, mut after_empty) = (false, false, true);
    for (number, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        let is_empty = line.trim().is_empty();
        indented = line.starts_with("    ") && (indented || after_empty) || indented && is_empty;
        after_empty = is_empty;
        let is_prose = !(is_fence || fenced || indented || line.trim_start().starts_with('|'));
        if is_prose && line.chars().count() > COLUMNS {
            found.push(number + 1);
        }
    }
    found
}

#[test]
fn prose_is_wrapped() {
    let files = files(".", &["md"]);
    assert!(files.len() > 20, "only {} files were found", files.len());
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let lines = too_long(&file.text);
            lines
                .into_iter()
                .map(|line| format!("{}:{line}", file.path))
        })
        .collect();
    assert!(
        faults.is_empty(),
        "longer than {COLUMNS} columns: {faults:#?}"
    );
}

#[test]
fn tables_diagrams_and_commands_may_be_wide() {
    let wide = "─".repeat(COLUMNS + 1);
    let fits = "─".repeat(COLUMNS);
    assert!(too_long(&fits).is_empty());
    assert_eq!(too_long(&wide), [1]);
    assert_eq!(too_long(&format!("1. text\n   {wide}")), [2]);
    assert_eq!(
        too_long(&format!("- text\n    {wide}")),
        [2],
        "no empty line"
    );
    for may in [
        format!("| {wide} |"),
        format!("text\n\n    {wide}\n\n    {wide}"),
        format!("```\n{wide}\n```"),
    ] {
        assert!(too_long(&may).is_empty(), "{may}");
    }
    assert_eq!(too_long(&format!("    code\n{wide}")), [2]);
    assert_eq!(too_long(&format!("```\n```\n{wide}")), [3]);
}
