//! Ports without hardware: net_null, net_ring as a loopback, net_pcap from file to file.

#![cfg(feature = "dpdk")]

mod dpdk_support;

use std::fs;
use std::path::Path;

use dpdk_colo::Frame;
use dpdk_colo::dpdk::{Burst, Mbuf, Mempool, Port, PortConfig, PortError};
use dpdk_support::{TestEal, bytes_of, pattern, pool, receive, send_all};

#[test]
fn ports() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (
        directory.path().join("in.pcap"),
        directory.path().join("out.pcap"),
    );
    // The last frame does not fit into one mbuf.
    let mut recorded: Vec<Vec<u8>> = (0..100).map(pattern).collect();
    recorded.push((0..3000u32).map(|n| n as u8).collect());
    fs::write(&input, pcap(&recorded)).unwrap();

    let pcap_device = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        input.display(),
        output.display()
    );
    let eal = TestEal::start(&[
        "-l",
        "0",
        "--no-telemetry",
        "--vdev=net_null0,size=64",
        "--vdev=net_null1",
        "--vdev=net_ring0",
        "--vdev",
        &pcap_device,
    ]);
    let frames = pool(&eal, "frames", 2047);

    names(&eal);
    null_makes_and_eats_frames(&eal, &frames);
    assert_eq!(frames.in_use(), 0);
    ring_loops_back(&eal, &frames);
    assert_eq!(frames.in_use(), 0);
    pcap_from_file_to_file(&eal, &frames, &recorded, &output);
    assert_eq!(frames.in_use(), 0);
}

fn names(eal: &TestEal) {
    assert_eq!(
        Port::names(eal),
        ["net_null0", "net_null1", "net_ring0", "net_pcap0"]
    );
    let error = Port::by_name(eal, "net_vhost7").map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no port net_vhost7; EAL knows: net_null0, net_null1, net_ring0, net_pcap0"
    );
    let _null = Port::by_name(eal, "net_null1").unwrap();
    let error = Port::by_name(eal, "net_null1").map(drop).unwrap_err();
    assert!(matches!(error, PortError::Taken { .. }));
    assert!(Port::by_name(eal, "zero\0byte").is_err());
}

fn null_makes_and_eats_frames(eal: &TestEal, frames: &Mempool) {
    let mut port = Port::by_name(eal, "net_null0").unwrap();
    assert_eq!(
        (port.driver(), port.name(), port.sends_chains()),
        ("net_null", "net_null0", true)
    );
    let mut queues = port.start(&PortConfig::new(frames)).unwrap();
    let mut rx = queues.rx.pop().unwrap().enable();
    let mut tx = queues.tx.pop().unwrap().enable();
    let mut burst = Burst::new();
    for _ in 0..1000 {
        assert_eq!(rx.rx(&mut burst), Burst::CAPACITY);
        assert!(burst.iter().all(|frame| frame.len() == 64));
        assert_eq!(rx.rx(&mut burst), 0, "a full burst takes no more");
        assert_eq!(tx.tx(&mut burst), Burst::CAPACITY);
    }
    assert_eq!(port.monitor().stats().unwrap().tx_frames, 32_000);
    drop((rx, tx, queues));
    port.close().map_err(|(_, error)| error).unwrap();
    // A virtual device's port is gone when it is closed.
    assert!(matches!(
        Port::by_name(eal, "net_null0").map(drop),
        Err(PortError::Unknown { .. })
    ));
}

fn ring_loops_back(eal: &TestEal, frames: &Mempool) {
    let mut port = Port::by_name(eal, "net_ring0").unwrap();
    assert!(port.sends_chains());
    let too_many = PortConfig {
        rx_queues: 1000,
        ..PortConfig::new(frames)
    };
    assert!(matches!(
        port.start(&too_many).map(drop),
        Err(PortError::TooManyQueues { .. })
    ));
    port.receive_all();

    for round in 0..2 {
        let mut queues = port.start(&PortConfig::new(frames)).unwrap();
        assert!(matches!(
            port.start(&PortConfig::new(frames)).map(drop),
            Err(PortError::State { .. })
        ));
        assert!(port.monitor().link_is_up());
        let mut rx = queues.rx.pop().unwrap().enable();
        let mut tx = queues.tx.pop().unwrap().enable();

        let mut burst = Burst::new();
        assert_eq!(rx.rx(&mut burst), 0);
        for n in 0..30 {
            burst
                .push(frames.copy_of(&pattern(n)).unwrap())
                .map_err(drop)
                .unwrap();
        }
        let data = frames.copy_of(&pattern(30)).unwrap();
        let header = frames.copy_of(b"header").unwrap();
        let framed = Mbuf::chain(header, data.share()).map_err(drop).unwrap();
        burst.push(framed).map_err(drop).unwrap();
        burst.push(data).map_err(drop).unwrap();
        send_all(&mut tx, &mut burst);

        let back = receive(&mut rx, 32);
        for (n, frame) in back[..30].iter().enumerate() {
            assert_eq!(bytes_of(frame), pattern(n as u64));
        }
        assert_eq!(bytes_of(&back[30]), [&b"header"[..], &pattern(30)].concat());
        assert_eq!(bytes_of(&back[31]), pattern(30));
        drop(back);

        // What a full ring does not take stays in the burst, in order.
        let mut sent = 0;
        let left = loop {
            for n in sent..sent + 32 {
                burst
                    .push(frames.copy_of(&(n as u32).to_be_bytes()).unwrap())
                    .map_err(drop)
                    .unwrap();
            }
            let taken = tx.tx(&mut burst);
            sent += taken;
            if !burst.is_empty() {
                break std::mem::take(&mut burst);
            }
        };
        assert_eq!(bytes_of(&left[0]), (sent as u32).to_be_bytes());
        assert_eq!(
            bytes_of(left.last().unwrap()),
            ((sent + left.len() - 1) as u32).to_be_bytes()
        );
        drop(left);
        for (n, frame) in receive(&mut rx, sent).iter().enumerate() {
            assert_eq!(bytes_of(frame), (n as u32).to_be_bytes());
        }
        let stats = port.monitor().stats().unwrap();
        assert_eq!(stats.rx_frames, stats.tx_frames);
        assert!(stats.tx_frames >= 32 + sent as u64 && round < 2);

        assert!(
            matches!(port.stop(), Err(PortError::Busy { .. })),
            "stopped under its poller"
        );
        drop(rx);
        let tx = tx.disable();
        assert!(matches!(port.stop(), Err(PortError::Busy { .. })));
        drop((tx, queues));
        port.stop().unwrap();
        assert!(!port.monitor().link_is_up());
    }
    let monitor = port.monitor().clone();
    port.close().map_err(|(_, error)| error).unwrap();
    assert!(matches!(monitor.stats(), Err(PortError::State { .. })));
    assert!(!monitor.link_is_up());
}

fn pcap_from_file_to_file(eal: &TestEal, frames: &Mempool, recorded: &[Vec<u8>], output: &Path) {
    let mut port = Port::by_name(eal, "net_pcap0").unwrap();
    assert_eq!(port.driver(), "net_pcap");
    assert!(port.sends_chains());
    let mut queues = port.start(&PortConfig::new(frames)).unwrap();
    let mut rx = queues.rx.pop().unwrap().enable();
    let mut tx = queues.tx.pop().unwrap().enable();

    let received = receive(&mut rx, recorded.len());
    assert_eq!(received.iter().map(bytes_of).collect::<Vec<_>>(), recorded);
    assert_eq!(received.last().unwrap().segment_count(), 2);
    assert!(received.iter().all(|frame| !frame.has_partial_checksum()));
    let mut burst = Burst::new();
    for frame in received {
        burst.push(frame).map_err(drop).unwrap();
        send_all(&mut tx, &mut burst);
    }
    drop((rx, tx, queues));
    port.close().map_err(|(_, error)| error).unwrap();

    assert_eq!(frames_of_pcap(&fs::read(output).unwrap()), recorded);
}

/// A pcap file of Ethernet frames, in this machine's byte order.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
        file.extend_from_slice(&word.to_ne_bytes());
    }
    for frame in frames {
        let len = frame.len() as u32;
        for word in [0, 0, len, len] {
            file.extend_from_slice(&word.to_ne_bytes());
        }
        file.extend_from_slice(frame);
    }
    file
}

fn frames_of_pcap(file: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = &file[24..];
    while let Some((record, after)) = rest.split_at_checked(16) {
        let len = u32::from_ne_bytes(record[8..12].try_into().unwrap()) as usize;
        frames.push(after[..len].to_vec());
        rest = &after[len..];
    }
    frames
}
