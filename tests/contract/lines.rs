//! Prose in the documents has lines of at most 120 columns. Tables, diagrams, commands and headings may be longer.

use super::source::files;

const COLUMNS: usize = 120;

#[test]
fn prose_has_lines_of_at_most_120_columns() {
    let mut seen = 0;
    for file in files(".", &["md"]) {
        let mut fenced = false;
        for (number, line) in (1..).zip(file.text.lines()) {
            fenced ^= line.starts_with("```");
            if fenced || line.starts_with(['|', '#']) || line.starts_with("    ") {
                continue;
            }
            seen += 1;
            let columns = line.chars().count();
            assert!(
                columns <= COLUMNS,
                "{}:{number} has {columns} columns",
                file.path
            );
        }
    }
    assert!(seen > 1000, "only {seen} lines of prose were found");
}
