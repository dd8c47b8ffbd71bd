//! Links between the repository's documents lead to files that exist.

use super::source::{files, root};

#[test]
fn links_between_documents_lead_somewhere() {
    let mut seen = 0;
    for file in files(".", &["md"]) {
        let below = root().join(&file.path);
        let folder = below.parent().expect("a file has one");
        // A link is `[text](path)`, perhaps with `#heading` behind the path.
        for rest in file.text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            seen += 1;
            assert!(folder.join(target).exists(), "{}: no {target}", file.path);
        }
    }
    assert!(seen > 30, "only {seen} links were found");
}
