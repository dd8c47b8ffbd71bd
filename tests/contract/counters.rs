//! Every counter is counted somewhere in the node.

use super::source::{code, files, word};

const LIST: &str = "src/observability/counters.rs";

#[test]
fn every_counter_is_counted() {
    let list = files(LIST, &["rs"]).remove(0).text;
    let start = list.find("\ncounters! {").expect("the list");
    let end = list[start..].find("\n}").expect("its end");
    // A row begins with the name: `Released = "released", Node, Sum;`.
    let rows = list[start..start + end]
        .lines()
        .filter(|line| line.contains(" = \""));
    let names: Vec<_> = rows.map(|row| word(row.trim_start())).collect();
    assert!(names.len() > 50, "{names:?}");
    let node: String = files("src/node", &["rs"])
        .iter()
        .map(|file| code(&file.text))
        .collect();
    for name in names {
        let counter = format!("Counter::{name}");
        let mut ends = node
            .match_indices(&counter)
            .map(|(at, found)| &node[at + found.len()..]);
        assert!(
            ends.any(|rest| word(rest).is_empty()),
            "nothing in src/node counts {name}"
        );
    }
}
