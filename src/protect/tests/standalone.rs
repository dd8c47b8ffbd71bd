//! The bare comparator.

use super::*;

fn bare() -> Standalone<HeapFrame> {
    let mut bare = Standalone::new(setup(1));
    bare.monitor(IN_COLO, 0);
    bare
}

fn bare_released(bare: &mut Standalone<HeapFrame>) -> Vec<u8> {
    std::iter::from_fn(|| bare.next_release())
        .map(|release| says(&release.frame))
        .collect()
}

#[test]
fn the_bare_comparator_commits_at_a_checkpoints_resume() {
    for pass in [false, true] {
        let mut bare = bare();
        bare.ingest(&mut once(datagram(1)), &mut empty(), 1);
        bare.monitor(QemuEvent::Stop, 2);
        assert!(!bare.wants_primary());
        bare.ingest(&mut empty(), &mut once(datagram(1)), 2);
        if pass {
            bare.monitor(QemuEvent::Pass, 2);
        }
        assert_eq!(bare_released(&mut bare), NOTHING);
        bare.monitor(QemuEvent::Resume, 3);
        assert_eq!(bare_released(&mut bare).len(), usize::from(pass));
        assert_eq!(bare.next_request(4).is_some(), !pass);
    }
}

#[test]
fn the_bare_comparator_compares_nothing_after_it_lost_its_monitor() {
    let mut bare = bare();
    bare.ingest(&mut once(datagram(1)), &mut empty(), 1);
    bare.monitor(QemuEvent::Disconnected, 2);
    // Whatever happened meanwhile, these may be of two epochs.
    bare.ingest(&mut empty(), &mut once(datagram(1)), 3);
    assert_eq!(bare_released(&mut bare), NOTHING);
    bare.monitor(IN_COLO, 4);
    let request = bare.next_request(5).expect("a checkpoint is needed");
    assert_eq!(request.cause, Cause::MonitorLost);
    bare.monitor(QemuEvent::Stop, 6);
    bare.monitor(QemuEvent::Pass, 6);
    bare.monitor(QemuEvent::Disconnected, 7);
    bare.monitor(IN_COLO, 8);
    bare.monitor(QemuEvent::Resume, 9);
    assert_eq!(
        bare_released(&mut bare),
        NOTHING,
        "which stop this ended is unknown"
    );
    assert!(bare.next_request(10).is_some());
    bare.monitor(QemuEvent::Stop, 11);
    bare.monitor(QemuEvent::Pass, 11);
    bare.monitor(QemuEvent::Resume, 12);
    assert_eq!(bare_released(&mut bare), [1]);
}

#[test]
fn a_divergence_behind_one_that_waits_is_counted() {
    let mut bare = bare();
    let differ = |bare: &mut Standalone<HeapFrame>, port| {
        let syn = |size| {
            let mut header = TcpHeader::new(port, 80, 1, 1_000);
            header.syn = true;
            let options = [etherparse::TcpOptionElement::MaximumSegmentSize(size)];
            header.set_options(&options).expect("short options");
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp_header(header);
            let mut bytes = Vec::new();
            builder.write(&mut bytes, &[]).expect("a packet");
            HeapFrame::new(&bytes)
        };
        bare.ingest(&mut once(syn(1400)), &mut once(syn(1300)), 1);
    };
    for (port, unrecorded) in [(1, 0), (2, 1), (3, 2)] {
        differ(&mut bare, port);
        assert_eq!(bare.comparison().unrecorded(), unrecorded);
    }
    assert!(
        bare.comparison_mut().next_record().is_some()
            && bare.comparison_mut().next_record().is_none()
    );
    differ(&mut bare, 4);
    assert!(bare.comparison_mut().next_record().is_some());
    assert_eq!(bare.comparison().unrecorded(), 2);
}
