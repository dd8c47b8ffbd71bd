//! What a node's captures say afterwards: no rule was broken.

use std::path::Path;

use dpdk_colo_audit::read::logs;
use dpdk_colo_audit::{Audit, Options, Report};

/// Audits the logs of both nodes of a pair.
pub fn pair(dir: &Path) -> Report {
    check(dir, &["primary", "secondary"])
}

/// Audits the log of a comparator that has released `released` frames.
pub fn comparator(dir: &Path, released: u64) {
    assert_eq!(check(dir, &["compare"]).judged.released, released);
}

fn check(dir: &Path, roles: &[&str]) -> Report {
    let nodes = roles
        .iter()
        .map(|role| logs(dir, &[role], None).expect("a log"))
        .collect();
    let (report, _) = Audit::new(nodes, Options::default())
        .run()
        .expect("it can be read");
    println!("audit: {report}");
    assert_eq!(report.status(), 0, "{report}");
    report
}
