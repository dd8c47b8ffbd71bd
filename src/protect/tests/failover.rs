//! Who goes on when one side is lost (rule R6), and what the survivor goes on with.

use super::*;
use crate::packet::Packet;
use crate::protect::{Action, Announcement};

/// A pair in COLO whose nodes go by this policy.
fn pair_with(on_peer_lost: OnPeerLost, auto: bool) -> Pair {
    Pair::protected_with(|setup| {
        setup.failover = Failover {
            on_peer_lost,
            auto,
            retry: 1_000,
        };
    })
}

impl Pair {
    fn silence(&mut self) {
        self.cut = true;
        self.now += TIMING.silence;
        self.primary.tick(self.now);
        self.secondary.tick(self.now);
    }

    /// The secondary's QEMU gets the failover command.
    pub(super) fn secondary_fails_over(&mut self) {
        self.secondary_fails_over_at(1);
    }

    /// It is the ring's stop of this number.
    fn secondary_fails_over_at(&mut self, stops: u32) {
        self.secondary.guest_stopped(0);
        for event in [
            QemuEvent::ColoExit,
            QemuEvent::Stop,
            QemuEvent::Migration(Migration::Completed),
            QemuEvent::Resume,
            QemuEvent::Barrier {
                stops,
                migration: Migration::Completed,
                running: true,
            },
        ] {
            assert!(!self.secondary.takes_over());
            self.secondary.monitor(event);
        }
    }

    pub(super) fn take_over(self) -> Primary<HeapFrame> {
        assert!(self.secondary.takes_over());
        let mut successor = Primary::new(setup(9), self.now);
        successor.inherit(self.secondary.into_handover_state(), self.now);
        successor
    }
}

/// What the guest sends leaves at once.
pub(super) fn say(successor: &mut Primary<HeapFrame>, frame: HeapFrame, now: Ticks) -> HeapFrame {
    let frame = successor.outward(frame, now).unwrap();
    output(successor, frame, now).unwrap()
}

pub(super) fn segment(from_guest: bool, seq: u32, ack: u32, payload: &[u8]) -> HeapFrame {
    let (src, dst, from, to) = if from_guest {
        (40_000, 80, [10, 0, 0, 1], [10, 0, 0, 2])
    } else {
        (80, 40_000, [10, 0, 0, 2], [10, 0, 0, 1])
    };
    let mut header = TcpHeader::new(src, dst, seq, 1_000);
    header.ack = true;
    header.acknowledgment_number = ack;
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from, to, 64)
        .tcp_header(header)
        .write(&mut bytes, payload)
        .unwrap();
    HeapFrame::new(&bytes)
}

pub(super) fn numbers(frame: &HeapFrame) -> (u32, u32) {
    let tcp = Packet::parse(frame.head(), frame.len()).tcp;
    (tcp.seq, tcp.ack)
}

#[test]
fn by_default_silence_lets_nothing_out_and_nobody_take_over() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.output(datagram(1));
    pair.silence();
    assert_eq!(pair.primary.state(), State::PeerLost);
    assert_eq!(pair.secondary.state(), State::PeerLost);
    for _ in 0..100 {
        pair.now += TIMING.silence;
        pair.primary.tick(pair.now);
        pair.secondary.tick(pair.now);
        assert_eq!(pair.primary.next_action(pair.now), None);
        assert_eq!(pair.secondary.next_action(pair.now), None);
        assert_eq!(pair.released(), NOTHING);
        assert!(!pair.secondary.takes_over());
    }
    // Not even what no comparison holds: another node may be answering for the VM.
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 8, 6]);
    arp.resize(60, 0);
    assert_eq!(pair.output(HeapFrame::new(&arp)), None);
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_link_that_comes_back_leads_through_a_checkpoint() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.silence();
    pair.cut = false;
    pair.exchange();
    pair.primary.tick(pair.now);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.request(), Some(Cause::LinkDown));
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), NOTHING);
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
}

#[test]
fn a_checkpoint_that_qemu_takes_without_the_link_covers_what_came_before() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.output(datagram(1));
    pair.silence();
    assert_eq!(pair.request(), Some(Cause::LinkDown));
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::PeerLost);
    assert_eq!(pair.request(), None);
    pair.output(datagram(2));
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.request(), Some(Cause::LinkDown));
}

#[test]
fn a_primary_that_may_take_the_loss_for_certain_goes_on() {
    let mut pair = pair_with(OnPeerLost::Release, false);
    pair.output(datagram(1));
    pair.silence();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Solo);
    assert_eq!(pair.output(datagram(2)).map(|f| says(&f)), Some(2));
    // The secondary does not go by that.
    assert_eq!(pair.secondary.next_action(pair.now), None);
    // A reset of the driver is no reason to hold again, the link's return is.
    pair.fence();
    pair.barrier(pair.stops, true);
    assert_eq!(pair.output(datagram(3)).map(|f| says(&f)), Some(3));
    pair.cut = false;
    pair.exchange();
    pair.primary.tick(pair.now);
    assert_eq!(pair.output(datagram(4)), None);
    assert_eq!(pair.request(), Some(Cause::LinkDown));
}

#[test]
fn a_fenced_peer_is_certain_and_failover_auto_gives_the_failover_command() {
    for auto in [false, true] {
        let mut pair = pair_with(OnPeerLost::Fence, auto);
        pair.output(datagram(1));
        pair.silence();
        let Some(Action::Fence(number)) = pair.primary.next_action(pair.now) else {
            panic!("nobody is fenced");
        };
        assert_eq!(pair.released(), NOTHING);
        pair.primary.fenced(number, true, pair.now);
        pair.primary.tick(pair.now);
        assert_eq!(pair.released(), [1]);
        let reported = pair.primary.next_action(pair.now);
        assert_eq!(reported, auto.then_some(Action::FailOver));
        // The secondary shoots only where it goes on in the other's place.
        let fences = matches!(pair.secondary.next_action(pair.now), Some(Action::Fence(_)));
        assert_eq!(fences, auto);
    }
}

#[test]
fn a_secondary_that_has_fenced_the_primary_tells_its_qemu() {
    let mut pair = pair_with(OnPeerLost::Fence, true);
    pair.secondary.monitor(CONNECTED_SECONDARY);
    pair.silence();
    let Some(Action::Fence(number)) = pair.secondary.next_action(pair.now) else {
        panic!("nobody is fenced");
    };
    pair.secondary.fenced(number, true, pair.now);
    assert!(!pair.secondary.takes_over());
    let reported = pair.secondary.next_action(pair.now);
    assert_eq!(reported, Some(Action::FailOver));
    pair.secondary_fails_over();
    assert_eq!(pair.secondary.next_action(pair.now + 100_000), None);
    pair.take_over();
}

#[test]
fn a_cancelled_migration_says_nothing_of_the_other_vm() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(QemuEvent::Migration(Migration::Broken));
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.state(), State::PeerLost);
    pair.tell(QemuEvent::Disconnected);
    pair.tell(QemuEvent::Connected {
        migration: Migration::Broken,
        running: true,
        leads: false,
    });
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_primary_that_hears_of_the_takeover_never_speaks_again() {
    for policy in [OnPeerLost::Hold, OnPeerLost::Release] {
        let mut pair = pair_with(policy, false);
        pair.output(datagram(1));
        pair.silence();
        pair.secondary_fails_over();
        let leaves = pair.released().len();
        assert_eq!(leaves, usize::from(policy == OnPeerLost::Release));
        let Pair {
            mut primary,
            secondary,
            now,
            ..
        } = pair;
        let mut successor = Primary::<HeapFrame>::new(setup(9), now);
        successor.inherit(secondary.into_handover_state(), now);
        for _ in 0..4 {
            while let Some(t) = successor.next_transmit(now) {
                hear(&mut primary, t.bytes(), now);
            }
            while let Some(t) = primary.next_transmit(now) {
                hear(&mut successor, t.bytes(), now);
            }
        }
        primary.tick(now);
        assert_eq!(output(&mut primary, datagram(2), now), None);
        primary.monitor(QemuEvent::Migration(Migration::Completed), now);
        primary.tick(now + 10 * TIMING.silence);
        assert!(primary.next_release().is_none());
        assert_eq!(primary.state(), State::PeerLost);
    }
}

/// Whether a frame of the link tells who leads.
fn says_who_leads(frame: &[u8]) -> bool {
    frame.get(DATA_HEADER) == Some(&5)
}

#[test]
fn nothing_opens_on_the_word_of_a_peer_that_has_taken_over() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.secondary_fails_over();
    let Pair {
        mut primary,
        secondary,
        mut now,
        ..
    } = pair;
    let mut successor = Primary::<HeapFrame>::new(setup(9), now);
    successor.inherit(secondary.into_handover_state(), now);
    assert!(primary.next_release().is_none(), "nobody has heard");
    let mut lost = 0;
    for _ in 0..20 {
        // An acknowledgment goes by itself where it is not due together with what is lost.
        for _ in 0..3 {
            while let Some(t) = successor.next_transmit(now) {
                if says_who_leads(t.bytes()) {
                    lost += 1;
                    continue;
                }
                hear(&mut primary, t.bytes(), now);
            }
            while let Some(t) = primary.next_transmit(now) {
                hear(&mut successor, t.bytes(), now);
            }
            now += TIMING.retransmit / 5;
        }
        primary.tick(now);
        assert!(primary.next_release().is_none(), "R5: the SVM's differs");
        now += TIMING.retransmit / 2;
    }
    assert!(lost > 1, "it is said again");
    // It is heard at last.
    for _ in 0..4 {
        while let Some(t) = successor.next_transmit(now) {
            hear(&mut primary, t.bytes(), now);
        }
        while let Some(t) = primary.next_transmit(now) {
            hear(&mut successor, t.bytes(), now);
        }
    }
    assert!(primary.epochs().is_superseded() && primary.next_release().is_none());
    assert!(primary.link().is_settled() && successor.link().is_settled());
}

/// Lets two nodes that lead say what they have to say; the second one hears nothing that `is_lost`.
fn converse(
    one: &mut Primary<HeapFrame>,
    other: &mut Primary<HeapFrame>,
    is_lost: impl Fn(&[u8]) -> bool,
    now: Ticks,
) {
    for _ in 0..6 {
        while let Some(t) = one.next_transmit(now) {
            if !is_lost(t.bytes()) {
                hear(other, t.bytes(), now);
            }
        }
        while let Some(t) = other.next_transmit(now) {
            hear(one, t.bytes(), now);
        }
    }
}

/// A pair in COLO whose primary has taken over itself; its secondary has heard no term.
fn led_before(linked: bool) -> (Primary<HeapFrame>, Secondary<HeapFrame>, Ticks) {
    let mut pair = Pair::protected();
    pair.secondary_fails_over();
    let now = pair.now + TIMING.silence;
    let mut pair = Pair {
        primary: pair.take_over(),
        secondary: Secondary::new(setup(20), now),
        cut: false,
        stops: 1,
        now,
    };
    // What tells who leads is lost, and all behind it is not heard in its turn.
    for _ in 0..8 {
        while let Some(t) = pair.primary.next_transmit(pair.now) {
            if linked && !says_who_leads(t.bytes()) {
                let (bytes, len) = (t.bytes(), t.bytes().len());
                pair.secondary.link_frame(bytes, len, pair.now);
            }
        }
        while let Some(t) = pair.secondary.next_transmit(pair.now) {
            if linked {
                hear(&mut pair.primary, t.bytes(), pair.now);
            }
        }
        pair.now += TIMING.retransmit / 2;
    }
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    pair.secondary_fails_over();
    assert_eq!(pair.primary.epochs().term(), 1);
    (pair.primary, pair.secondary, pair.now)
}

/// Whether there was a session or not, the node that took over last is the later one.
#[test]
fn who_takes_over_unheard_leads_after_a_primary_that_has_taken_over_itself() {
    for linked in [false, true] {
        let (mut primary, secondary, mut now) = led_before(linked);
        let mut successor = Primary::<HeapFrame>::new(setup(30), now);
        successor.inherit(secondary.into_handover_state(), now);
        for _ in 0..8 {
            converse(&mut primary, &mut successor, |_| false, now);
            now += TIMING.retransmit;
        }
        assert!(primary.epochs().is_superseded(), "linked: {linked}");
        assert!(!successor.epochs().is_superseded(), "linked: {linked}");
        assert_eq!(successor.epochs().term(), 2);
        assert!(primary.link().is_settled() && successor.link().is_settled());
    }
}

/// The old primary knows from no acknowledgment that its numbers were heard before it is silent.
#[test]
fn who_takes_over_unheard_acknowledges_nothing_before_it_is_heard() {
    let (mut primary, secondary, mut now) = led_before(true);
    let mut successor = Primary::<HeapFrame>::new(setup(30), now);
    successor.inherit(secondary.into_handover_state(), now);
    for _ in 0..8 {
        converse(&mut primary, &mut successor, says_who_leads, now);
        now += TIMING.retransmit;
    }
    assert!(!primary.epochs().is_superseded() && !primary.link().is_settled());
    // Of the term that is heard at last nothing is acknowledged before the answer is.
    while let Some(t) = primary.next_transmit(now) {
        hear(&mut successor, t.bytes(), now);
    }
    for _ in 0..4 {
        now += TIMING.heartbeat;
        while let Some(t) = successor.next_transmit(now) {
            if !says_who_leads(t.bytes()) {
                hear(&mut primary, t.bytes(), now);
            }
        }
    }
    assert!(!primary.epochs().is_superseded() && !primary.link().is_settled());
    for _ in 0..4 {
        now += TIMING.retransmit;
        converse(&mut primary, &mut successor, |_| false, now);
    }
    assert!(primary.epochs().is_superseded() && primary.link().is_settled());
}

/// Who has taken over from a node that took over unheard is its successor, not its predecessor.
#[test]
fn who_took_over_unheard_hears_its_successor() {
    let mut pair = Pair::new();
    pair.cut = true;
    let now = pair.now;
    let mut secondary = Secondary::<HeapFrame>::new(setup(20), now);
    std::mem::swap(&mut pair.secondary, &mut secondary);
    pair.secondary.monitor(CONNECTED);
    pair.secondary_started(0, true);
    pair.secondary_fails_over();
    let mut pair = Pair {
        primary: pair.take_over(),
        secondary: Secondary::new(setup(31), now),
        cut: false,
        stops: 1,
        now,
    };
    for _ in 0..8 {
        pair.exchange();
        pair.now += TIMING.heartbeat;
    }
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    pair.exchange();
    pair.secondary_fails_over();
    let Pair {
        mut primary,
        secondary,
        now,
        ..
    } = pair;
    let mut successor = Primary::<HeapFrame>::new(setup(9), now);
    successor.inherit(secondary.into_handover_state(), now);
    converse(&mut primary, &mut successor, |_| false, now);
    assert_eq!((primary.epochs().term(), successor.epochs().term()), (1, 2));
    assert!(primary.epochs().is_superseded() && !successor.epochs().is_superseded());
}

#[test]
fn the_svm_speaks_for_itself_in_the_numbers_that_its_client_knows() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    assert_eq!(pair.released().len(), 1);
    pair.secondary_fails_over();
    let now = pair.now;
    let mut successor = pair.take_over();
    // The guest's SYN again, its data, and what the client answers.
    let again = say(&mut successor, syn(5_000), now);
    assert_eq!(numbers(&again).0, 100);
    let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
    assert_eq!(numbers(&data), (101, 7));
    let mut answer = segment(false, 7, 102, b"y");
    assert!(successor.input(&mut answer, now));
    assert_eq!(numbers(&answer), (7, 5_002));
    // Another connection of the same ports has numbers of its own.
    let other = say(&mut successor, syn(900_000), now);
    assert_eq!(numbers(&other).0, 900_000);
    let data = say(&mut successor, segment(true, 900_001, 7, b"x"), now);
    assert_eq!(numbers(&data), (900_001, 7));
}

/// The EtherTypes of what a node says of its own accord.
fn said(mut next: impl FnMut() -> Option<Announcement>) -> Vec<[u8; 2]> {
    std::iter::from_fn(&mut next)
        .map(|frame| frame.bytes()[12..14].try_into().unwrap())
        .collect()
}

const RARP: [u8; 2] = [0x80, 0x35];
const ARP: [u8; 2] = [0x08, 0x06];

#[test]
fn the_announcement_leaves_when_qemu_has_decided_and_again_when_the_vm_runs() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    let now = pair.now;
    pair.secondary.guest_stopped(0);
    for event in [QemuEvent::ColoExit, QemuEvent::Stop] {
        pair.secondary.monitor(event);
        assert!(said(|| pair.secondary.next_announcement(now)).is_empty());
    }
    pair.secondary
        .monitor(QemuEvent::Migration(Migration::Completed));
    assert!(pair.secondary.is_chosen() && !pair.secondary.takes_over());
    assert_eq!(said(|| pair.secondary.next_announcement(now)), [RARP]);
    assert!(said(|| pair.secondary.next_announcement(now)).is_empty());
    pair.secondary.monitor(QemuEvent::Resume);
    pair.secondary.monitor(QemuEvent::Barrier {
        stops: 1,
        migration: Migration::Completed,
        running: true,
    });
    let mut successor = pair.take_over();
    assert_eq!(said(|| successor.next_announcement(now)), [RARP]);
    // Whom the VM has sent its last segment to is asked where it is.
    let last = segment(true, 5_001, 7, b"x").to_vec();
    let packet = Packet::parse(&last, last.len());
    successor.announcer().unwrap().speaks_to(&last, &packet);
    assert_eq!(said(|| successor.next_announcement(now)), [ARP]);
}

/// Its SVM may have been announced since.
#[test]
fn the_vms_place_is_not_announced_while_it_is_uncertain_who_speaks() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.secondary_fails_over();
    let begun = pair.now;
    let now = begun + TIMING.silence;
    let mut pair = Pair {
        primary: pair.take_over(),
        secondary: Secondary::new(setup(20), now),
        cut: false,
        stops: 1,
        now,
    };
    pair.exchange();
    assert_eq!(said(|| pair.primary.next_announcement(begun)), [RARP]);
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    pair.exchange();
    let millisecond = setup(20).millisecond;
    // The first of those that come later, while the pair is protected.
    let late = begun + 60 * millisecond;
    assert_eq!(said(|| pair.primary.next_announcement(late)), [RARP]);
    pair.primary.input_missed(1, pair.now);
    assert_eq!(pair.primary.state(), State::Uncertain);
    let later = begun + 300 * millisecond;
    assert!(said(|| pair.primary.next_announcement(later)).is_empty());
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.primary.state(), State::Protected);
    assert_eq!(said(|| pair.primary.next_announcement(later)), [RARP]);
}

#[test]
fn a_primary_that_is_started_again_asks_the_vms_peers_behind_the_first_commit() {
    let heard = segment(false, 7, 5_001, b"x").to_vec();
    let packet = Packet::parse(&heard, heard.len());
    let restarted = |running| {
        let mut primary = Primary::<HeapFrame>::new(setup(3), 0);
        primary.monitor(
            QemuEvent::Connected {
                migration: Migration::Colo,
                running,
                leads: true,
            },
            1,
        );
        primary
    };
    let mut primary = restarted(true);
    assert!(primary.announcer().is_some_and(|it| !it.is_done()));
    primary.announcer().unwrap().hears(&heard, &packet);
    let barrier = |stops| QemuEvent::Barrier {
        stops,
        migration: Migration::Colo,
        running: true,
    };
    primary.monitor(barrier(0), 2);
    assert!(said(|| primary.next_announcement(2)).is_empty());
    primary.guest_stopped();
    for event in [QemuEvent::Stop, QemuEvent::Pass, QemuEvent::Resume] {
        assert!(said(|| primary.next_announcement(3)).is_empty());
        primary.monitor(event, 3);
    }
    primary.monitor(barrier(1), 3);
    let late = 3 + 1_000 * setup(3).millisecond;
    // The link is there, so that it is certain who speaks.
    let mut pair = Pair::protected();
    std::mem::swap(&mut pair.primary, &mut primary);
    pair.exchange();
    assert_eq!(said(|| pair.primary.next_announcement(late)), NONE);
    pair.stop(1);
    pair.resume();
    assert_eq!(said(|| pair.primary.next_announcement(late)), [ARP]);
    let later = late + 1_000 * setup(3).millisecond;
    assert_eq!(said(|| pair.primary.next_announcement(later)), [ARP]);
    assert!(pair.primary.announcer().is_none_or(|it| it.is_done()));
    assert!(
        restarted(false).announcer().is_none_or(|it| it.is_done()),
        "the VM was never without a node"
    );
}

const NONE: [[u8; 2]; 0] = [];

/// What a survivor sends once more of its own accord, by sequence and acknowledgment number.
fn again(successor: &mut Primary<HeapFrame>) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    while let Some(last) = successor.next_last() {
        if last.counts {
            all.push(numbers(&successor.outward_again(last.frame).unwrap()));
        }
    }
    all
}

#[test]
fn what_the_svm_sent_last_leaves_again_at_the_takeover() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.released();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.svm(segment(true, 5_002, 7, b"y"));
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), [(102, 7)]);
}

#[test]
fn an_acknowledgment_behind_data_leaves_again_with_the_data() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.svm(segment(true, 5_002, 7, b""));
    pair.svm(segment(true, 5_002, 8, b""));
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), [(5_001, 7), (5_002, 8)]);
}

#[test]
fn a_syn_that_the_svm_sent_last_leaves_again_with_the_pvm_s_number() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), [(100, 0)]);
}

#[test]
fn what_the_svm_sent_before_it_loaded_a_state_never_leaves() {
    for reported in [false, true] {
        let mut pair = Pair::protected();
        pair.svm(segment(true, 5_001, 7, b"x"));
        pair.stop(1);
        if reported {
            pair.resume();
            pair.exchange();
        }
        pair.secondary_fails_over_at(2);
        assert_eq!(again(&mut pair.take_over()), []);
    }
}

/// Where the clients may wait that a survivor knows of.
fn awaited(pair: Pair) -> Vec<u32> {
    let mut successor = pair.take_over();
    let last = std::iter::from_fn(|| successor.next_last());
    last.flat_map(|last| last.awaited(7)).flatten().collect()
}

#[test]
fn where_a_client_waits_is_known_though_the_vms_state_is_older() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.input(&segment(false, 7, 5_002, b"taken"));
    assert!(pair.secondary.next_input(pair.now).is_some());
    pair.input(&segment(false, 12, 5_003, b""));
    pair.secondary_fails_over();
    assert_eq!(awaited(pair), [7, 12], "7 once");

    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.input(&segment(false, 7, 5_002, b"covered"));
    pair.stop(1);
    pair.resume();
    pair.exchange();
    assert!(pair.secondary.next_input(pair.now).is_none());
    assert_eq!(pair.secondary.counts().stale, 1);
    pair.secondary_fails_over_at(2);
    assert_eq!(awaited(pair), [7, 14]);

    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.stop(1);
    pair.resume();
    pair.input(&segment(false, 20, 5_002, b"waits"));
    pair.secondary_fails_over_at(2);
    assert_eq!(awaited(pair), [7, 20, 25]);
}

#[test]
fn a_connection_that_was_reset_has_no_last_segment() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    let mut reset = segment(true, 5_002, 7, b"").to_vec();
    reset[47] |= 4;
    pair.svm(HeapFrame::new(&reset));
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), []);
}

#[test]
fn a_last_load_without_an_epoch_has_no_offset() {
    for reported in [false, true] {
        let mut pair = Pair::protected();
        pair.output(syn(100));
        pair.svm(syn(5_000));
        pair.released();
        pair.exchange();
        pair.released();
        // A checkpoint whose end the primary did not live to tell.
        pair.secondary.guest_stopped(0);
        if reported {
            pair.secondary.monitor(QemuEvent::Stop);
            pair.secondary.monitor(QemuEvent::Resume);
        }
        pair.secondary.guest_stopped(0);
        for event in [
            QemuEvent::Stop,
            QemuEvent::Migration(Migration::Completed),
            QemuEvent::Resume,
            QemuEvent::Barrier {
                stops: 2,
                migration: Migration::Completed,
                running: true,
            },
        ] {
            pair.secondary.monitor(event);
        }
        let now = pair.now;
        let mut successor = pair.take_over();
        let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
        // A checkpoint that loaded nothing leaves the offset as it was.
        assert_eq!(numbers(&data).0, if reported { 5_001 } else { 101 });
    }
}

#[test]
fn a_load_that_the_monitor_tells_late_voids_no_offset() {
    let mut pair = Pair::new().forwards();
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.resume();
    // The link is faster than the SVM's monitor.
    pair.exchange();
    pair.secondary_started(0, true);
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.released();
    pair.secondary_fails_over();
    let now = pair.now;
    let mut successor = pair.take_over();
    let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
    assert_eq!(numbers(&data), (101, 7));
}

#[test]
fn nothing_overtakes_a_frame_that_opens_its_connection() {
    let mut pair = Pair::protected();
    pair.cut = true;
    pair.output(syn(100));
    pair.svm(syn(5_000));
    assert!(pair.released().is_empty(), "the secondary has not heard");
    pair.output(segment(true, 101, 7, b"x"));
    pair.svm(segment(true, 101, 7, b"x"));
    // The protection is in doubt before the data has left.
    pair.primary.input_missed(1, pair.now);
    assert!(pair.released().is_empty());
    pair.now += TIMING.silence;
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released().len(), 2);
}

#[test]
fn who_comes_back_from_a_silence_need_not_know_what_it_acknowledges() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.cut = true;
    pair.output(syn(100));
    pair.svm(syn(5_000));
    assert!(pair.released().is_empty(), "the secondary has not heard");
    pair.silence();
    // It acknowledges the numbers, and may speak for the VM by now, with others.
    pair.cut = false;
    pair.now += TIMING.retransmit;
    pair.exchange();
    pair.primary.tick(pair.now);
    pair.exchange();
    assert!(pair.released().is_empty());
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released().len(), 1);
}

#[test]
fn a_survivor_is_protected_again_and_so_are_its_old_connections() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.released();
    pair.secondary_fails_over();
    let now = pair.now + TIMING.silence;
    let successor = pair.take_over();
    let mut pair = Pair {
        primary: successor,
        secondary: Secondary::new(setup(20), now),
        cut: false,
        stops: 1,
        now,
    };
    for _ in 0..8 {
        pair.exchange();
        pair.now += TIMING.heartbeat;
    }
    assert_eq!(pair.primary.state(), State::Pairing);
    // Both VMs have the numbers of the first secondary.
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    for _ in 0..8 {
        pair.exchange();
    }
    assert_eq!(pair.primary.state(), State::Protected);
    assert_eq!(pair.secondary.state(), State::Protected);
    let data = || segment(true, 5_001, 7, b"x");
    pair.output(data());
    assert!(pair.primary.next_release().is_none());
    pair.svm(data());
    let release = pair.primary.next_release().expect("equal");
    assert_eq!(numbers(&release.frame), (101, 7));
    // The second takeover, too.
    pair.secondary_fails_over();
    let now = pair.now;
    let mut successor = pair.take_over();
    assert_eq!(again(&mut successor), [(101, 7)]);
    let data = say(&mut successor, data(), now);
    assert_eq!(numbers(&data), (101, 7));
}

/// The term of a lead outlives the process: a node that led earlier does not find itself the later one.
#[test]
fn a_survivor_that_is_started_again_leads_in_the_term_that_it_led_in() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.secondary.led(5);
    pair.secondary_fails_over();
    assert_eq!(pair.take_over().epochs().term(), 5);
}

#[test]
fn a_secondary_may_be_promoted_while_an_epoch_of_this_session_covers_what_has_left() {
    let pair = Pair::new().forwards();
    assert!(!pair.secondary.is_promotable(), "it has no state");
    let mut pair = pair_with(OnPeerLost::Hold, false);
    assert!(pair.secondary.is_promotable());
    // A checkpoint that is under way changes nothing: the state before it is whole.
    pair.stop(1);
    assert!(pair.secondary.is_promotable());
    pair.resume();
    pair.exchange();
    // What is lost may be replaced; what comes back may have let out what no state covers.
    pair.silence();
    assert_eq!(pair.secondary.state(), State::PeerLost);
    assert!(pair.secondary.is_promotable());
    pair.cut = false;
    pair.exchange();
    pair.secondary.tick(pair.now);
    pair.primary.tick(pair.now);
    assert!(!pair.secondary.is_promotable());
    pair.stop(2);
    pair.resume();
    pair.exchange();
    assert!(pair.secondary.is_promotable());
    // Another node of the primary's.
    let mut began_anew = pair_with(OnPeerLost::Hold, false);
    began_anew.primary = Primary::new(setup(9), began_anew.now);
    began_anew.exchange();
    assert!(!began_anew.secondary.is_promotable());
    // Its QEMU is gone, or leads, or has left COLO.
    pair.secondary.monitor(QemuEvent::Disconnected);
    assert!(!pair.secondary.is_promotable());
    pair.secondary.monitor(CONNECTED_SECONDARY);
    assert!(pair.secondary.is_promotable());
    pair.secondary_fails_over_at(3);
    assert!(!pair.secondary.is_promotable());
    let mut other = pair_with(OnPeerLost::Hold, false);
    other.secondary.monitor(CONNECTED);
    other.secondary.monitor(CONNECTED_SECONDARY);
    assert!(
        !other.secondary.is_promotable(),
        "another QEMU has no state"
    );
}
