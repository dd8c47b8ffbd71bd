//! A disk that neither takes nor refuses what is written to it.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::capture;
use crate::control::Client;
use crate::frames::Flow;
use crate::node::{self, Node, PATIENCE, comparator, eal_options, pcap, prefix};

/// Replaces `fsync`, which each record calls once. The first one takes so long that all other records wait meanwhile; so
/// the third one has another before it in its round of the control thread, and waits while a file is there.
const HANGS: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int fsync(int fd)
{
    static int calls;
    (void)fd;
    const char *path = getenv("HANGS_WHILE"), *said = getenv("HANGS_SAYS");
    int call = __sync_add_and_fetch(&calls, 1);
    if (call == 1)
        sleep(2);
    if (call == 3 && said)
        close(open(said, O_CREAT | O_WRONLY, 0600));
    while (call >= 3 && path && access(path, F_OK) == 0)
        usleep(10000);
    return 0;
}
"#;

#[test]
fn a_disk_that_hangs_keeps_no_answer_waiting() {
    // One record at most is made of what comes in one burst.
    const FLOWS: u16 = 4000;
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
    let (hangs, says) = (file("hangs"), file("says"));
    fs::write(&hangs, "").expect("a file");
    let environment = [
        ("HANGS_WHILE", hangs.as_path()),
        ("HANGS_SAYS", says.as_path()),
    ];
    let mut node = Node::spawn_preloading(&file("hangs.so"), &environment, prefix, words);
    node.wait_for_line("ready");
    let mut client = Client::of(&node);
    let begun = Instant::now();
    while !says.exists() {
        assert!(begun.elapsed() < PATIENCE, "three records are begun");
        thread::sleep(Duration::from_millis(20));
    }
    // This client waits for a bounded time, so that the test fails where nobody answers.
    assert_eq!(client.pair()["role"], "compare");
    let written = node.stats()["records"]["written"].as_u64();
    assert_eq!(written, Some(2), "the disk hangs");
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
    fs::remove_file(&hangs).expect("it is there");
    node.wait_for("the other records", |stats| {
        stats["records"]["written"].as_u64() > written
    });
    assert!(since.elapsed() < PATIENCE);
    node.stop();
}
