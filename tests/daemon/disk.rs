//! A disk that neither takes nor refuses what is written to it.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::capture;
use crate::control::Client;
use crate::frames::Flow;
use crate::node::{self, Node, PATIENCE, comparator, eal_options, pcap, prefix};

/// Long enough for a record to be begun.
const A_WHILE: Duration = Duration::from_millis(300);

/// Replaces `fsync`: it waits while a file is there.
const HANGS: &str = r#"
#include <stdlib.h>
#include <unistd.h>
int fsync(int fd)
{
    (void)fd;
    const char *path = getenv("HANGS_WHILE");
    usleep(100000);
    while (path && access(path, F_OK) == 0)
        usleep(10000);
    return 0;
}
"#;

#[test]
fn a_disk_that_hangs_keeps_no_answer_waiting() {
    const FLOWS: u16 = 40;
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| dir.path().join(name);
    let text = |name: &str| file(name).to_str().expect("a plain path").to_owned();
    fs::write(file("hangs.c"), HANGS).expect("a file");
    let built = Command::new("cc")
        .args([
            "-shared",
            "-fPIC",
            "-o",
            &text("hangs.so"),
            &text("hangs.c"),
        ])
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cc builds it");
    let frames = |byte: u8| -> Vec<Vec<u8>> {
        (0..FLOWS)
            .map(|n| Flow::v4(n).data(1000, 77, &[byte; 100]))
            .collect()
    };
    capture::write(&file("p.pcap"), &frames(b'p'));
    capture::write(&file("s.pcap"), &frames(b's'));
    let prefix = prefix();
    let mut words = eal_options(&prefix, 2);
    words.extend([
        pcap(0, Some(&file("p.pcap")), None),
        pcap(1, Some(&file("s.pcap")), None),
        pcap(2, None, Some(&file("out.pcap"))),
        "--".to_owned(),
    ]);
    words.extend(comparator("net_pcap"));
    words.extend(["--report-dir".to_owned(), text("reports")]);
    let hangs = file("hangs");
    let environment = [("HANGS_WHILE", hangs.as_path())];
    let mut node = Node::spawn_preloading(&file("hangs.so"), &environment, prefix, words);
    node.wait_for_line("ready");
    let mut client = Client::of(&node);
    // Each record takes a while, so that the next one is never alone; then the disk hangs.
    node.wait_for("a record", |stats| {
        stats["records"]["written"].as_u64() > Some(0)
    });
    fs::write(&hangs, "").expect("a file");
    thread::sleep(A_WHILE);
    let written = node.stats()["records"]["written"].as_u64();
    let since = Instant::now();
    for _ in 0..20 {
        assert_eq!(client.pair()["role"], "compare");
        assert_eq!(
            node.stats()["records"]["written"].as_u64(),
            written,
            "the disk hangs"
        );
    }
    println!(
        "40 answers beside a disk that hangs took {:?}",
        since.elapsed()
    );
    assert!(written < Some(FLOWS.into()), "all was written before");
    fs::remove_file(&hangs).expect("it is there");
    node.wait_for("the other records", |stats| {
        stats["records"]["written"].as_u64() > written
    });
    assert!(since.elapsed() < PATIENCE);
    node.stop();
}
