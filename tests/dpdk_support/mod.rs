//! What the DPDK tests share: an EAL without hugepages or devices, and frames to recognise.
//!
//! EAL starts once in a process, so each of these test programs has a single test.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::PathBuf;

use colo_testkit::rng::Rng;
use dpdk_colo::Frame;
use dpdk_colo::dpdk::{Burst, Eal, Mbuf, Mempool, MempoolConfig, RxPoller, TxPoller, mempool};

/// A running EAL and its directory, which EAL itself leaves behind.
pub struct TestEal {
    eal: Option<Eal>,
    directory: PathBuf,
}

impl TestEal {
    /// Starts EAL with further options, such as `--vdev`.
    pub fn start(options: &[&str]) -> Self {
        let prefix = format!("colo-test-{}", std::process::id());
        let mut arguments: Vec<String> = [
            "dpdk-colo-test",
            "--no-huge",
            "--no-pci",
            "--no-shconf",
            "--iova-mode=va",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--file-prefix={prefix}"));
        arguments.extend(options.iter().map(|&o| o.to_owned()));
        let eal = Eal::init(&arguments).expect("EAL starts");
        Self {
            eal: Some(eal),
            directory: PathBuf::from("/var/run/dpdk").join(prefix),
        }
    }

    /// The directory with the telemetry socket.
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }
}

impl std::ops::Deref for TestEal {
    type Target = Eal;

    fn deref(&self) -> &Eal {
        self.eal.as_ref().expect("taken only when dropped")
    }
}

impl Drop for TestEal {
    fn drop(&mut self) {
        self.eal = None;
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub fn pool(eal: &Eal, name: &str, mbufs: u32) -> Mempool {
    let config = MempoolConfig {
        name,
        mbufs,
        cache: 64,
        data_room: mempool::DEFAULT_DATA_ROOM,
        socket: None,
    };
    Mempool::new(eal, &config).expect("memory for a small pool")
}

/// The bytes of test frame `n`: a length of 60 to 1514 and a content that depend on it.
pub fn pattern(n: u64) -> Vec<u8> {
    let mut rng = Rng::new(n);
    let len = rng.between(60, 1514);
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend(rng.bytes(len - bytes.len()));
    bytes
}

pub fn bytes_of(frame: &Mbuf) -> Vec<u8> {
    let bytes = frame.segments().collect::<Vec<_>>().concat();
    assert_eq!(
        bytes.len(),
        frame.len(),
        "the length agrees with the segments"
    );
    bytes
}

/// Sends all frames of the burst, or fails.
pub fn send_all(tx: &mut TxPoller, burst: &mut Burst) {
    for _ in 0..1_000_000 {
        if burst.is_empty() {
            return;
        }
        tx.tx(burst);
    }
    panic!("the port takes no more frames, {} are left", burst.len());
}

/// Polls until `n` frames have come, or fails.
pub fn receive(rx: &mut RxPoller, n: usize) -> Vec<Mbuf> {
    let mut frames = Vec::new();
    let mut burst = Burst::new();
    for _ in 0..1_000_000 {
        rx.rx(&mut burst);
        frames.extend(burst.drain());
        if frames.len() >= n {
            return frames;
        }
    }
    panic!("{} of {n} frames came", frames.len());
}
