//! Tests of the auditor: a clean log passes. Each break of a rule that is put into it is reported, with its record.

mod certificate;
mod ended;
mod evidence;
mod frames;
mod masks;
mod overtaking;
mod parts;
mod story;
mod unequal;

use dpdk_colo_audit::record::{Body, Event, Numbers, Place, Role};
use dpdk_colo_audit::{Options, Report, Rule};

use frames::{ACK, PAYLOAD, Tcp, WINDOW, arp, igmp};
use story::{Story, audit, audit_with};

const CLIENT: u32 = 5_000;
/// The server's numbers wrap soon.
const ISN: u32 = u32::MAX - 20;

fn seq(offset: u32) -> u32 {
    ISN.wrapping_add(1).wrapping_add(offset)
}

/// Numbers of records in [`clean`].
struct Places {
    /// The first data of flow 1: P, S, OUT.
    first: [usize; 3],
    /// Its second data.
    second: [usize; 3],
    /// A pure acknowledgment: P, S, OUT.
    ack: [usize; 3],
    /// The P that differs, the S that does, and the OUT behind the commit.
    differs: [usize; 3],
    commit: usize,
    /// First P, S and OUT of the second epoch.
    next_epoch: [usize; 3],
    datagram: [usize; 3],
}

/// A clean log with every kind of event.
fn clean() -> (Story, Places) {
    let mut story = Story::new(Role::Primary);
    let old = Tcp(9);
    // Before COLO everything leaves.
    let alone = old.data(100, CLIENT, b"alone");
    story.p(&alone);
    story.out(&alone);
    story.protect();
    // An older connection goes on, and retransmits what the client has not acknowledged.
    story.agree(&old.data(105, CLIENT, b"together"));
    story.p(&alone);
    story.out(&alone);

    let flow = Tcp(1);
    story.s(&flow.syn(77, CLIENT));
    let opened = flow.syn(ISN, CLIENT);
    story.p(&opened);
    story.out(&opened);
    let one = flow.data(seq(0), CLIENT, &[b'a'; 100]);
    let first = [story.p(&one), story.s(&one), story.out(&one)];
    // Other segmentation at the SVM, and a later acknowledgment.
    let two = flow.data(seq(100), CLIENT + 10, &[b'b'; 100]);
    let p = story.p(&two);
    story.s(&flow.data(seq(100), CLIENT, &[b'b'; 60]));
    let s = story.s(&flow.data(seq(160), CLIENT + 10, &[b'b'; 40]));
    let mut left = two.clone();
    left[WINDOW] = 0;
    left[WINDOW + 2] ^= 0x55;
    let second = [p, s, story.out(&left)];
    let acked = flow.data(seq(200), CLIENT + 20, b"");
    let ack = [story.p(&acked), story.s(&acked), story.out(&acked)];
    let message = Tcp(3).udp(53, b"answer");
    let datagram = [story.s(&message), story.p(&message), story.out(&message)];
    let clock = Tcp(3).udp(123, b"differs by nature");
    story.p(&clock);
    story.out(&clock);
    story.p(&arp());
    story.out(&arp());
    story.p(&igmp());
    story.out(&igmp());

    // A byte differs: everything of the flow waits, others go on.
    let p = story.p(&flow.data(seq(200), CLIENT + 20, b"PVM's own"));
    let s = story.s(&flow.data(seq(200), CLIENT + 20, b"SVM's own"));
    let behind = flow.data(seq(209), CLIENT + 20, b"equal");
    story.p(&behind);
    story.s(&behind);
    story.agree(&old.data(113, CLIENT, b"other"));
    story.fence();
    story.event(Event::Stop);
    story.event(Event::Pass);
    story.event(Event::Resume);
    let commit = story.commit();
    let own = story.bytes(p).to_vec();
    let out = story.out(&own);
    let differs = [p, s, out];
    story.out(&behind);

    // The flow goes on from the PVM's state, and retransmits bytes that left at the commit.
    story.p(&own);
    story.out(&own);
    let after = flow.data(seq(214), CLIENT + 30, b"after");
    let next_epoch = [story.p(&after), story.s(&after), story.out(&after)];
    story.agree(&flow.fin(seq(219), CLIENT + 30));

    // The ports are used again, with numbers that lie in the old range.
    let opened = flow.syn(seq(50), CLIENT);
    story.p(&opened);
    story.s(&flow.syn(99, CLIENT));
    story.out(&opened);
    story.agree(&flow.data(seq(51), CLIENT, b"a new life"));
    story.checkpoint();
    story.agree(&flow.data(seq(61), CLIENT, b"goes on"));
    // COLO ends: held output leaves.
    let held = flow.data(seq(68), CLIENT, b"held");
    story.p(&held);
    story.event(Event::ColoExit);
    story.state("peer_lost");
    story.event(Event::Migration { colo: false });
    story.state("solo");
    story.out(&held);
    let places = Places {
        first,
        second,
        ack,
        differs,
        commit,
        next_epoch,
        datagram,
    };
    (story.end(), places)
}

/// The rule that a log breaks, and the record that shows it, counted from 0.
fn broken(report: &Report) -> (Rule, usize) {
    println!("{report}\n");
    let violation = report.violation.as_ref().expect("a violation");
    assert_eq!(report.status(), 1);
    (violation.rule, violation.seq as usize - 1)
}

#[test]
fn a_clean_log_passes() {
    let (story, _) = clean();
    let report = audit(&[&story]);
    println!("{report}");
    assert_eq!(report.status(), 0, "{report}");
    assert_eq!(report.judged.commits, 3);
    assert_eq!(report.judged.policy.len(), 3);
    assert!(report.judged.compared >= 10, "{report}");
    assert!(report.judged.committed >= 2, "{report}");
    assert_eq!(report.judged.unprotected, 2);
    assert_eq!(report.judged.records, story.records.len() as u64 + 1);
}

#[test]
fn a_flipped_byte_is_named_wherever_it_is_flipped() {
    for index in 0..3 {
        let (mut story, at) = clean();
        story.bytes(at.first[index])[PAYLOAD + 41] ^= 4;
        let report = audit(&[&story]);
        assert_eq!(broken(&report), (Rule::R1, at.first[2]));
        let violation = report.violation.expect("it is there");
        assert_eq!(violation.position.as_deref(), Some("byte 41 of the stream"));
        assert_eq!(violation.epoch, 1);
    }
    // Both VMs' capture shows one byte, and what left another: in a header, too.
    let (mut story, at) = clean();
    story.bytes(at.first[2])[30] ^= 1;
    let (rule, _) = broken(&audit(&[&story]));
    assert_eq!(rule, Rule::R1);
}

#[test]
fn a_datagram_is_judged_by_its_content() {
    for index in 0..3 {
        let (mut story, at) = clean();
        story.bytes(at.datagram[index])[44] ^= 1;
        assert_eq!(broken(&audit(&[&story])), (Rule::R1, at.datagram[2]));
    }
    // One S is a witness for one P.
    let (mut story, at) = clean();
    let again = story.records[at.datagram[1]].clone();
    let out = story.records[at.datagram[2]].clone();
    story
        .records
        .splice(at.datagram[2] + 1..at.datagram[2] + 1, [again, out]);
    assert_eq!(broken(&audit(&[&story])), (Rule::R1, at.datagram[2] + 2));
}

#[test]
fn an_early_release_is_named() {
    // Before the S.
    let (mut story, at) = clean();
    story.move_to(at.second[2], at.second[1]);
    assert_eq!(broken(&audit(&[&story])), (Rule::R1, at.second[1]));
    // Of what differs, before the commit.
    let (mut story, at) = clean();
    story.move_to(at.differs[2], at.commit);
    assert_eq!(broken(&audit(&[&story])), (Rule::R1, at.commit));
    // Of what follows a difference, which is equal itself.
    let (mut story, at) = clean();
    story.move_to(at.differs[2] + 1, at.commit);
    assert_eq!(broken(&audit(&[&story])), (Rule::R2, at.commit));
    // The SVM sent these bytes, then others.
    let (mut story, at) = clean();
    let mut other = story.records[at.second[1]].clone();
    if let Body::Frame { bytes, .. } = &mut other.body {
        bytes[PAYLOAD] ^= 1;
    }
    story.records.insert(at.second[1] + 1, other);
    assert_eq!(broken(&audit(&[&story])), (Rule::R2, at.second[2] + 1));
}

#[test]
fn a_swapped_epoch_is_named() {
    // The S bears the number of the epoch before.
    let (mut story, at) = clean();
    if let Body::Frame { epoch, .. } = &mut story.records[at.next_epoch[1]].body {
        *epoch -= 1;
    }
    assert_eq!(broken(&audit(&[&story])), (Rule::R1, at.next_epoch[2]));
    // A P of the next epoch leaves by the commit of this one.
    let (mut story, at) = clean();
    story.remove(at.next_epoch[1]);
    assert_eq!(broken(&audit(&[&story])), (Rule::R1, at.next_epoch[2] - 1));
    // An S that was sent before the stop stands for a P after it.
    let (mut story, at) = clean();
    story.move_to(at.next_epoch[1], at.commit - 5);
    assert_eq!(broken(&audit(&[&story])).0, Rule::R1);
}

#[test]
fn a_commit_without_its_checkpoint_is_named() {
    // From RESUME, PASS, STOP to the fence, each taken away.
    for back in 1..4 {
        let (mut story, at) = clean();
        story.remove(at.commit - back);
        let report = audit(&[&story]);
        assert_eq!(broken(&report), (Rule::R3, at.commit - 1));
    }
    // Without the fence the commit covers nothing.
    let (mut story, at) = clean();
    let fence = (0..at.commit)
        .rev()
        .find(|i| matches!(story.records[*i].body, Body::Event(Event::Fence { .. })))
        .expect("a fence");
    story.remove(fence);
    assert_eq!(broken(&audit(&[&story])), (Rule::R1, at.differs[2] - 1));
    // A frame is taken while the VM is said to be stopped.
    let (mut story, at) = clean();
    story.move_to(at.next_epoch[0], at.commit - 1);
    assert_eq!(broken(&audit(&[&story])).0, Rule::R3);
}

#[test]
fn a_moved_acknowledgment_is_named() {
    let ahead = |bytes: &mut Box<[u8]>, by: u32| {
        let ack = u32::from_be_bytes(bytes[ACK..ACK + 4].try_into().expect("4 bytes"));
        bytes[ACK..ACK + 4].copy_from_slice(&ack.wrapping_add(by).to_be_bytes());
    };
    // In what left, in what the PVM sent as well, and back in what the SVM sent.
    for places in [&[2][..], &[0, 2], &[1]] {
        let (mut story, at) = clean();
        for place in places {
            let by = if *place == 1 { u32::MAX } else { 1 };
            ahead(story.bytes(at.ack[*place]), by);
        }
        assert_eq!(broken(&audit(&[&story])), (Rule::R4, at.ack[2]));
    }
    // Numbers wrap.
    let mut story = Story::new(Role::Primary);
    story.protect();
    let flow = Tcp(1);
    story.p(&flow.data(1, 3, b"x"));
    story.s(&flow.data(1, u32::MAX - 3, b"x"));
    let out = story.out(&flow.data(1, 3, b"x"));
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R4, out));
}

#[test]
fn bytes_doubled_or_skipped_are_reported() {
    let (mut story, at) = clean();
    let again = story.records[at.first[2]].clone();
    story.records.insert(at.first[2] + 1, again);
    assert_eq!(broken(&audit(&[&story])), (Rule::R5, at.first[2] + 1));
    // The first data never left.
    let (mut story, at) = clean();
    story.remove(at.first[2]);
    assert_eq!(broken(&audit(&[&story])), (Rule::R5, at.second[2] - 1));
    // The PVM says other bytes at the same place, and a commit lets both go.
    let mut story = Story::new(Role::Primary);
    story.protect();
    let flow = Tcp(1);
    let (one, two) = (flow.data(1, 1, b"one"), flow.data(1, 1, b"two"));
    story.p(&one);
    story.p(&two);
    story.checkpoint();
    story.out(&one);
    let out = story.out(&two);
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R5, out));
}

/// A primary that dies and a secondary that takes over.
fn failover() -> (Story, Story) {
    let mut primary = Story::new(Role::Primary);
    primary.protect();
    let flow = Tcp(1);
    primary.agree(&flow.data(1, 1, b"both"));
    let mut secondary = Story::new(Role::Secondary);
    secondary.after(&primary);
    secondary.event(Event::Migration { colo: false });
    secondary.event(Event::Takeover);
    secondary.state("solo");
    secondary.out(&arp());
    secondary.out(&igmp());
    for frame in [flow.data(1, 1, b"both"), flow.data(5, 1, b"alone")] {
        secondary.p(&frame);
        secondary.out(&frame);
    }
    (primary, secondary.end())
}

#[test]
fn two_releasers_are_named() {
    let (primary, secondary) = failover();
    let report = audit(&[&primary, &secondary]);
    assert_eq!(report.status(), 0, "{report}");
    assert!(report.notes[0].contains("no end mark"), "{report}");

    // The primary is not dead after all.
    let (mut primary, secondary) = failover();
    primary.after(&secondary);
    primary.agree(&Tcp(1).data(5, 1, b"alone"));
    let report = audit(&[&primary, &secondary]);
    let (rule, at) = broken(&report);
    assert_eq!((rule, at), (Rule::R6, primary.records.len() - 1));
    assert_eq!(report.violation.expect("it is there").log, "primary");

    // On two hosts, whose clocks may differ by an unknown time, nobody can tell.
    let (mut primary, mut secondary) = failover();
    secondary.start.host = "another".to_owned();
    primary.after(&secondary);
    primary.agree(&Tcp(1).data(5, 1, b"alone"));
    assert_eq!(audit(&[&primary, &secondary]).status(), 2);
    let exactly = Options {
        clock_error: Some(0),
        keep: false,
    };
    assert_eq!(
        broken(&audit_with(&[&primary, &secondary], exactly)).0,
        Rule::R6
    );

    // The secondary releases without having taken over.
    let (primary, mut secondary) = failover();
    let takeover = 2;
    assert!(matches!(
        secondary.records[takeover].body,
        Body::Event(Event::Takeover)
    ));
    secondary.remove(takeover);
    assert_eq!(broken(&audit(&[&primary, &secondary])).0, Rule::R6);

    // It sends other bytes than the client has got.
    let (primary, mut secondary) = failover();
    for record in [6, 7] {
        secondary.bytes(record)[PAYLOAD] ^= 1;
    }
    let report = audit(&[&primary, &secondary]);
    assert_eq!(broken(&report), (Rule::R5, 7));
}

#[test]
fn a_node_that_is_started_again_asks_for_neighbours_behind_its_first_commit() {
    // Checkpoints: none; one whose stop the node saw; one that had stopped the VM before the node came.
    let story = |running, checkpoint: Option<bool>| {
        let mut story = Story::new(Role::Primary);
        let colo = true;
        story.event(Event::MonitorConnected { colo, running });
        story.state("uncertain");
        match checkpoint {
            None => {}
            Some(true) => story.checkpoint(),
            Some(false) => story.load(),
        }
        let asked = story.out(&arp());
        story.agree(&Tcp(1).data(1, 1, b"both"));
        (audit(&[&story.end()]), asked)
    };
    for fence in [true, false] {
        let (report, _) = story(true, Some(fence));
        assert_eq!(report.status(), 0, "{report}");
    }
    for (running, checkpoint) in [(true, None), (false, Some(true)), (false, Some(false))] {
        let (report, asked) = story(running, checkpoint);
        assert_eq!(broken(&report).1, asked);
    }
}

#[test]
fn nothing_is_proven_behind_a_gap() {
    let (mut story, at) = clean();
    story.bytes(at.second[2])[PAYLOAD] ^= 1;
    let mut records = story.records.clone();
    for (seq, record) in (1..).zip(&mut records) {
        record.seq = seq;
    }
    records.remove(at.first[1]);
    let log = dpdk_colo_audit::read::Log::of_records("primary", story.start.clone(), records);
    let (report, _) = dpdk_colo_audit::Audit::new(vec![vec![log]], Options::default())
        .run()
        .expect("it is in memory");
    assert_eq!(
        (report.status(), report.violation.is_none()),
        (2, true),
        "{report}"
    );
    assert!(
        report.unproven[0].contains(&format!("record {}", at.first[1])),
        "{report}"
    );
}

#[test]
fn segments_of_a_large_frame_leave_one_by_one() {
    let mut story = Story::new(Role::Primary);
    story.protect();
    let flow = Tcp(1);
    let payload: Vec<u8> = (0..4_000u32).map(|i| i as u8).collect();
    let large = flow.data(1, 1, &payload);
    story.p(&large);
    story.s(&large);
    let mut outs = Vec::new();
    for (i, piece) in payload.chunks(1_460).enumerate() {
        outs.push(story.out(&flow.data(1 + i as u32 * 1_460, 1, piece)));
    }
    let story = story.end();
    assert_eq!(audit(&[&story]).status(), 0, "{}", audit(&[&story]));
    let mut swapped = story.clone();
    swapped.records.swap(outs[1], outs[2]);
    assert_eq!(broken(&audit(&[&swapped])).1, outs[1]);
}

#[test]
fn a_raw_secondary_counts_from_its_own_number() {
    let mut story = Story::new(Role::Compare);
    story.start.numbers = Numbers::OwnIsn;
    story.epoch = 1;
    story.state("protected");
    let flow = Tcp(1);
    story.s(&flow.syn(9_000, CLIENT));
    story.agree_raw(&flow.syn(ISN, CLIENT), &flow.syn(9_000, CLIENT));
    let out = story.agree_raw(
        &flow.data(seq(0), CLIENT, b"data"),
        &flow.data(9_001, CLIENT, b"data"),
    );
    assert_eq!(audit(&[&story]).status(), 0, "{}", audit(&[&story]));
    story.bytes(out - 1)[PAYLOAD + 3] ^= 1;
    assert_eq!(broken(&audit(&[&story])), (Rule::R1, out));
}

impl Story {
    /// The VMs send the same with their own numbers, and the PVM's leaves.
    fn agree_raw(&mut self, p: &[u8], s: &[u8]) -> usize {
        self.frame(Place::P, p);
        self.frame(Place::S, s);
        self.frame(Place::Out, p)
    }
}
