//! What the layer costs a poll core, on net_null. A measurement, not a test:
//! `cargo test --release --test dpdk_cost -- --ignored --nocapture`. DPDK's own figure is that of
//! `dpdk-testpmd` with two net_null ports and `--forward-mode=io`.

#![cfg(feature = "dpdk")]

mod dpdk_support;

use std::time::{Duration, Instant};

use dpdk_colo::Frame;
use dpdk_colo::dpdk::{Burst, Mempool, Port, PortConfig, Queues, RxPoller, TxPoller, lcore, tsc};
use dpdk_support::{TestEal, pool};

#[test]
#[ignore = "a measurement"]
fn cost() {
    let eal = TestEal::start(&[
        "-l",
        "0,1",
        "--no-telemetry",
        "--vdev=net_null0,size=64",
        "--vdev=net_null1,size=64",
        "--vdev=net_null2,no-rx=1",
    ]);
    let pool = pool(&eal, "frames", 8191);
    let mut ports: Vec<Port> = ["net_null0", "net_null1", "net_null2"]
        .map(|name| Port::by_name(&eal, name).unwrap())
        .into();
    let queues: Vec<Queues> = ports
        .iter_mut()
        .map(|port| port.start(&PortConfig::new(&pool)).unwrap())
        .collect();
    let frames = pool.clone();
    lcore::launch(&eal, 1, move || measure(queues, &frames))
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(pool.in_use(), 0);
}

fn measure(queues: Vec<Queues>, pool: &Mempool) {
    let mut pollers = queues.into_iter().map(|mut queues| {
        (
            queues.rx.pop().unwrap().enable(),
            queues.tx.pop().unwrap().enable(),
        )
    });
    let (mut rx0, mut tx0): (RxPoller, TxPoller) = pollers.next().unwrap();
    let (mut rx1, mut tx1) = pollers.next().unwrap();
    let (mut silent, _tx2) = pollers.next().unwrap();
    let mut burst = Burst::new();

    report("frame, received and freed", || {
        let n = rx0.rx(&mut burst);
        burst.clear();
        n
    });
    report("frame, received and freed one by one", || {
        let n = rx0.rx(&mut burst);
        burst.drain().for_each(drop);
        n
    });
    report("frame, from port 0 to 1 and from 1 to 0", || {
        rx0.rx(&mut burst);
        let n = tx1.tx(&mut burst);
        rx1.rx(&mut burst);
        n + tx0.tx(&mut burst)
    });
    report("frame, received, shared, sent twice", || {
        rx0.rx(&mut burst);
        let mut copies = Burst::new();
        for frame in burst.iter() {
            let _ = copies.push(frame.share());
        }
        tx1.tx(&mut copies);
        tx0.tx(&mut burst)
    });
    let mut headers = Burst::new();
    report("frame, received, shared behind a header, both sent", || {
        rx0.rx(&mut burst);
        pool.alloc_bulk(&mut headers, burst.len());
        let mut mirrored = Burst::new();
        for (mut header, frame) in headers.drain().zip(burst.iter()) {
            header.append(24);
            if let Ok(chain) = dpdk_colo::dpdk::Mbuf::chain(header, frame.share()) {
                let _ = mirrored.push(chain);
            }
        }
        tx1.tx(&mut mirrored);
        tx0.tx(&mut burst)
    });
    report("poll that finds nothing", || {
        silent.rx(&mut burst);
        1
    });
}

/// Repeats `f`, which says how much it did, for two seconds, and shows the best stretch of a
/// millisecond: the machine may be busy.
fn report(what: &str, mut f: impl FnMut() -> usize) {
    let mut best = f64::INFINITY;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        let (start, mut done) = (tsc::now(), 0);
        for _ in 0..1000 {
            done += f();
        }
        best = best.min((tsc::now() - start) as f64 / done as f64);
    }
    println!("{best:8.1} cycles: {what}");
}
