//! The two halves and the bare comparator in single situations; how they stand together over time
//! is the simulation's matter.

use etherparse::{PacketBuilder, TcpHeader};

use super::{Bare, Cause, Monitor, Primary, Secondary, Setup, State};
use crate::compare::{Limits, Numbers, Policy, Reason};
use crate::frame::{Frame, HeapFrame, Ticks};
use crate::link::{DATA_HEADER, Timing};

const TIMEOUT: Ticks = 1_000;
const REPEAT: Ticks = 5_000;
const TIMING: Timing = Timing {
    heartbeat: 100,
    retransmit: 50,
    silence: 100_000,
};
const WINDOW: u32 = 64;
const NOTHING: [u8; 0] = [];

fn setup(boot: u32) -> Setup {
    Setup {
        vm: 1,
        boot,
        link_mac: [2; 6],
        window: WINDOW,
        link: TIMING,
        limits: Limits {
            primary: 64,
            secondary: 64,
            history: 16,
            flows: 16,
            timeout: TIMEOUT,
            idle: 1 << 40,
        },
        numbers: Numbers::Translated,
        policy: Policy::default(),
        repeat: REPEAT,
        connections: 16,
    }
}

/// A datagram that says one number.
fn datagram(says: u8) -> HeapFrame {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(53, 5353);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[says]).unwrap();
    HeapFrame::new(&bytes)
}

fn syn(isn: u32) -> HeapFrame {
    let mut header = TcpHeader::new(40_000, 80, isn, 1_000);
    header.syn = true;
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp_header(header);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).unwrap();
    HeapFrame::new(&bytes)
}

fn says(frame: &HeapFrame) -> u8 {
    *frame.to_vec().last().unwrap()
}

/// Both nodes of a pair on a link without loss or delay.
struct Pair {
    primary: Primary<HeapFrame>,
    secondary: Secondary<HeapFrame>,
    /// The link carries nothing.
    cut: bool,
    now: Ticks,
}

const CONNECTED: Monitor = Monitor::Connected {
    colo: false,
    running: true,
};
const IN_COLO: Monitor = Monitor::Connected {
    colo: true,
    running: true,
};

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            primary: Primary::new(setup(1), 0),
            secondary: Secondary::new(setup(2), 0),
            cut: false,
            now: 1,
        };
        pair.exchange();
        pair
    }

    /// A pair whose VM forwards, its monitor there and its ring running.
    fn forwarding() -> Self {
        let mut pair = Self::new();
        pair.tell(CONNECTED);
        pair.barrier(0, false);
        pair
    }

    /// A pair in COLO.
    fn protected() -> Self {
        let mut pair = Self::forwarding();
        pair.primary.guest_stopped();
        pair.tell(Monitor::Stop);
        pair.tell(Monitor::Migration { colo: true });
        pair.secondary.guest_started(0, true);
        pair.tell(Monitor::Resume);
        pair.exchange();
        assert_eq!(pair.primary.state(), State::Protected);
        assert_eq!(pair.secondary.state(), State::Protected);
        pair
    }

    fn tell(&mut self, event: Monitor) {
        self.primary.monitor(event, self.now);
    }

    fn barrier(&mut self, stops: u32, colo: bool) {
        self.tell(Monitor::Barrier {
            stops,
            colo,
            running: true,
        });
    }

    /// Lets the nodes say what they have to say.
    fn exchange(&mut self) {
        for _ in 0..6 {
            while let Some(t) = self.primary.next_transmit(self.now) {
                if !self.cut {
                    let (bytes, len) = (t.bytes(), t.bytes().len());
                    self.secondary.link_frame(bytes, len, self.now);
                }
            }
            while let Some(t) = self.secondary.next_transmit(self.now) {
                if !self.cut {
                    let (bytes, len) = (t.bytes(), t.bytes().len());
                    self.primary.link_frame(bytes, len, self.now);
                }
            }
        }
    }

    /// The PVM sends; what left at once is given back.
    fn output(&mut self, frame: HeapFrame) -> Option<HeapFrame> {
        assert!(self.primary.wants_output(), "the ring must not be polled");
        self.primary.output(frame, self.now)
    }

    /// The SVM sends, under whatever number it has.
    fn svm(&mut self, frame: HeapFrame) {
        assert!(self.secondary.wants_output(), "the SVM must not be polled");
        let outgoing = self.secondary.output(frame, self.now).unwrap();
        let mut bytes = outgoing.header.to_vec();
        bytes.extend(outgoing.frame.to_vec());
        let (epoch, length) = self
            .primary
            .link_frame(&bytes, bytes.len(), self.now)
            .unwrap();
        let payload = HeapFrame::new(&bytes[DATA_HEADER..DATA_HEADER + length]);
        self.primary.svm_output(payload, epoch, self.now);
    }

    fn released(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.primary.next_release())
            .map(|release| says(&release.frame))
            .collect()
    }

    /// The cause of the request that is written now.
    fn request(&mut self) -> Option<Cause> {
        self.primary.tick(self.now);
        self.primary.next_request(self.now).map(|r| r.cause)
    }

    /// A checkpoint up to the PVM's STOP.
    fn stop(&mut self, stops: u32) {
        self.secondary.guest_stopped();
        self.primary.guest_stopped();
        self.tell(Monitor::Stop);
        self.tell(Monitor::Pass);
        self.secondary.guest_started(stops, true);
    }
}

#[test]
fn equal_output_leaves_and_other_output_waits_for_the_commit() {
    let mut pair = Pair::protected();
    assert_eq!(pair.output(datagram(1)), None);
    assert_eq!(pair.released(), NOTHING);
    pair.svm(datagram(1));
    assert_eq!(pair.released(), [1]);
    pair.output(datagram(2));
    pair.svm(datagram(3));
    pair.now += TIMEOUT;
    assert_eq!(pair.request(), Some(Cause::Difference(Reason::Payload)));
    pair.stop(1);
    assert_eq!(pair.released(), NOTHING, "STOP is no commit");
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), [2]);
    assert_eq!(pair.request(), None);
    assert_eq!(pair.primary.checkpoints().committed_count(), 1);
}

#[test]
fn nothing_is_taken_before_the_monitor_has_told_of_the_vm() {
    let mut pair = Pair::new();
    assert!(!pair.primary.wants_output());
    // A node that was started again while the VM is in COLO.
    pair.tell(IN_COLO);
    pair.barrier(0, true);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.output(datagram(1)), None);
    assert_eq!(pair.request(), Some(Cause::MonitorLost));
    pair.stop(0);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
}

#[test]
fn colo_that_begins_before_the_guests_ring_runs_protects() {
    let mut pair = Pair::new();
    pair.tell(CONNECTED);
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Migration { colo: true });
    pair.tell(Monitor::Resume);
    assert_eq!(pair.primary.state(), State::Protected);
    // Checkpoints go on while there is no ring to stop.
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Pass);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.primary.checkpoints().committed_count(), 1);
    pair.barrier(0, true);
    assert_eq!(pair.output(datagram(1)), None);
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_resume_without_a_pass_commits_nothing() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.primary.guest_stopped();
    assert!(!pair.primary.wants_output());
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.request(), Some(Cause::GuestReset));
    // Not even the SVM's equal frame lets one leave: its state is not the PVM's.
    pair.output(datagram(2));
    pair.svm(datagram(2));
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_pass_counts_only_for_the_stop_before_it() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(Monitor::Pass);
    pair.primary.guest_stopped();
    pair.tell(Monitor::Pass);
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn two_checkpoints_commit_one_after_the_other_under_a_late_monitor() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    for _ in 0..2 {
        pair.secondary.guest_stopped();
        pair.primary.guest_stopped();
    }
    pair.secondary.guest_started(2, true);
    for commit in 1..=2 {
        pair.tell(Monitor::Stop);
        pair.tell(Monitor::Pass);
        assert!(!pair.primary.wants_output());
        pair.tell(Monitor::Resume);
        assert_eq!(pair.primary.checkpoints().committed_count(), commit);
    }
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
    pair.exchange();
    assert_eq!(pair.secondary.epoch(), pair.primary.epoch());
}

#[test]
fn an_svm_is_not_polled_before_its_epoch_is_committed() {
    let mut pair = Pair::protected();
    pair.stop(1);
    pair.exchange();
    assert!(!pair.secondary.wants_output());
    pair.tell(Monitor::Resume);
    pair.exchange();
    assert!(pair.secondary.wants_output());
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), [1]);
}

#[test]
fn what_bears_the_number_of_an_epoch_that_is_over_is_void() {
    let mut pair = Pair::protected();
    let old = pair.primary.epoch();
    pair.stop(1);
    pair.tell(Monitor::Resume);
    pair.exchange();
    pair.output(datagram(1));
    for epoch in [
        old,
        old.wrapping_sub(1),
        pair.primary.epoch().wrapping_add(1),
    ] {
        pair.primary.svm_output(datagram(1), epoch, pair.now);
    }
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.counts().stale, 3);
}

#[test]
fn what_bears_the_number_of_an_epoch_to_come_is_void() {
    let mut pair = Pair::protected();
    pair.stop(1);
    let next = pair.primary.epoch();
    pair.primary.svm_output(datagram(1), next, pair.now);
    pair.tell(Monitor::Resume);
    pair.output(datagram(1));
    assert_eq!(pair.released(), NOTHING, "it was sent before the commit");
}

#[test]
fn a_stop_is_not_ended_by_an_older_answer() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(Monitor::Disconnected);
    pair.primary.guest_stopped();
    pair.tell(IN_COLO);
    assert!(!pair.primary.wants_output(), "the answer may be older");
    pair.barrier(1, true);
    assert!(!pair.primary.wants_output(), "so may this one");
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Pass);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
}

#[test]
fn a_monitor_that_was_lost_between_stop_and_resume_commits_nothing() {
    for resume_is_heard in [false, true] {
        let mut pair = Pair::protected();
        pair.output(datagram(1));
        pair.stop(1);
        pair.tell(Monitor::Disconnected);
        pair.tell(Monitor::Connected {
            colo: true,
            running: false,
        });
        if resume_is_heard {
            pair.tell(Monitor::Resume);
        }
        pair.barrier(2, true);
        assert_eq!(pair.released(), NOTHING);
        assert_eq!(pair.primary.state(), State::Uncertain);
        assert!(pair.primary.wants_output());
        assert_eq!(pair.request(), Some(Cause::GuestReset));
    }
}

#[test]
fn a_resume_that_commits_nothing_lets_the_request_be_repeated() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    // The monitor tells of a stop after which frames were taken: the ring was not up by then.
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Pass);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), NOTHING);
    assert!(pair.request().is_some(), "nobody would ever ask again");
}

#[test]
fn a_request_without_a_stop_is_repeated() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    pair.now += REPEAT - 1;
    assert_eq!(pair.request(), None, "one is outstanding");
    pair.now += 1;
    assert!(pair.request().is_some());
    pair.tell(Monitor::Disconnected);
    assert_eq!(pair.request(), None, "nobody hears it");
    pair.tell(IN_COLO);
    assert!(
        pair.request().is_some(),
        "the last one may not have been heard"
    );
}

#[test]
fn a_ring_that_waits_for_its_driver_does_not_keep_frames_for_ever() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.primary.guest_stopped();
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Pass);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), [1]);
}

#[test]
fn numbers_of_an_epoch_are_not_told_in_the_next() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    // The uplink is full: the frame is free to leave and does not.
    pair.stop(1);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released().len(), 1);
    pair.exchange();
    assert_eq!(pair.secondary.rewriter().counters().learned, 0);
}

#[test]
fn numbers_are_told_before_the_frame_leaves() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.cut = true;
    assert_eq!(pair.released().len(), 1);
    pair.cut = false;
    pair.exchange();
    assert_eq!(pair.secondary.rewriter().counters().learned, 1);
}

#[test]
fn a_load_forgets_the_numbers() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.stop(1);
    pair.tell(Monitor::Resume);
    pair.exchange();
    let mut header = TcpHeader::new(40_000, 80, 101, 1_000);
    header.ack = true;
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp_header(header);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[1]).unwrap();
    let outgoing = pair.secondary.output(HeapFrame::new(&bytes), pair.now);
    assert_eq!(outgoing.unwrap().frame.to_vec(), bytes, "the offset is 0");
}

#[test]
fn an_epoch_that_the_link_cannot_take_is_told_later() {
    let mut pair = Pair::protected();
    pair.stop(1);
    pair.cut = true;
    // Numbers of many connections fill the link's queue.
    pair.tell(Monitor::Resume);
    pair.cut = false;
    pair.exchange();
    let first = pair.secondary.epoch();
    for isn in 0.. {
        let frame = || {
            let mut header = TcpHeader::new(1_000 + isn as u16, 80, isn, 1_000);
            header.syn = true;
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp_header(header);
            let mut bytes = Vec::new();
            builder.write(&mut bytes, &[]).unwrap();
            HeapFrame::new(&bytes)
        };
        pair.output(frame());
        pair.svm(frame());
        if pair.primary.next_release().is_none() {
            break;
        }
        assert!(isn < 10_000, "the queue is never full");
    }
    pair.stop(2);
    pair.tell(Monitor::Resume);
    pair.exchange();
    pair.now += TIMING.retransmit;
    pair.exchange();
    assert_ne!(pair.secondary.epoch(), first);
    assert_eq!(pair.secondary.epoch(), pair.primary.epoch());
}

#[test]
fn what_leaves_at_once_does_not_overtake_what_was_held() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(Monitor::Migration { colo: false });
    assert!(!pair.primary.wants_output());
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.output(datagram(2)).map(|f| says(&f)), Some(2));
}

#[test]
fn after_an_error_everything_is_held_until_somebody_decides() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(Monitor::ColoExit);
    assert_eq!(pair.primary.state(), State::PeerLost);
    pair.output(datagram(2));
    pair.svm(datagram(1));
    pair.now += 2 * TIMEOUT;
    assert_eq!(pair.request(), None, "nobody would serve it");
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.input_room(pair.now), usize::MAX);
    assert!(!pair.primary.mirrors(pair.now));
    pair.tell(Monitor::Migration { colo: false });
    assert_eq!(pair.released(), [1, 2]);
    assert_eq!(pair.primary.state(), State::Pairing);
}

#[test]
fn a_failed_checkpoint_commits_nothing() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.stop(1);
    pair.tell(Monitor::ColoExit);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), NOTHING);
    // Another COLO may have begun while nobody listened.
    pair.tell(Monitor::Disconnected);
    pair.tell(IN_COLO);
    assert_eq!(pair.request(), Some(Cause::MonitorLost));
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn another_qemu_gets_nothing_of_its_predecessors_output() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(Monitor::Disconnected);
    pair.primary.guest_stopped();
    pair.tell(CONNECTED);
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.counts().discarded, 1);
    assert_eq!(pair.primary.frames(), 0);
}

#[test]
fn input_that_nobody_took_is_not_missed() {
    let mut pair = Pair::protected();
    pair.primary.input_missed(0, pair.now);
    assert_eq!(pair.primary.state(), State::Protected);
    pair.primary.input_missed(1, pair.now);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.request(), Some(Cause::InputLost));
}

#[test]
fn a_lost_input_frame_asks_for_a_checkpoint() {
    let mut pair = Pair::protected();
    pair.primary.mirror(60, pair.now);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    assert_eq!(pair.request(), Some(Cause::InputLost));
}

#[test]
fn an_svm_that_takes_no_input_asks_for_a_checkpoint() {
    let mut pair = Pair::protected();
    let input = datagram(9);
    while pair.primary.input_room(pair.now) >= super::primary::BURST {
        let mut bytes = pair.primary.mirror(input.len(), pair.now).to_vec();
        bytes.extend(input.to_vec());
        let (epoch, _, after) = pair
            .secondary
            .link_frame(&bytes, bytes.len(), pair.now)
            .unwrap();
        pair.secondary.input(input.clone(), epoch, after);
    }
    assert_eq!(pair.request(), None);
    pair.now += TIMEOUT - 1;
    pair.exchange();
    assert_eq!(pair.request(), None);
    pair.now += 1;
    assert_eq!(pair.request(), Some(Cause::InputLost));
}

#[test]
fn a_slow_svm_is_only_waited_for() {
    let mut pair = Pair::protected();
    let input = datagram(9);
    for _ in 0..20 {
        while pair.primary.input_room(pair.now) >= super::primary::BURST {
            let mut bytes = pair.primary.mirror(input.len(), pair.now).to_vec();
            bytes.extend(input.to_vec());
            let (epoch, _, after) = pair
                .secondary
                .link_frame(&bytes, bytes.len(), pair.now)
                .unwrap();
            pair.secondary.input(input.clone(), epoch, after);
        }
        for _ in 0..3 {
            assert!(pair.secondary.next_input(pair.now).is_some());
        }
        pair.now += TIMEOUT / 2;
        pair.exchange();
        assert_eq!(pair.request(), None);
    }
}

#[test]
fn input_of_an_epoch_waits_for_an_svm_that_runs_it() {
    let mut pair = Pair::protected();
    let input = |pair: &mut Pair, says| {
        let frame = datagram(says);
        let mut bytes = pair.primary.mirror(frame.len(), pair.now).to_vec();
        bytes.extend(frame.to_vec());
        let got = pair.secondary.link_frame(&bytes, bytes.len(), pair.now);
        let (epoch, _, after) = got.unwrap();
        pair.secondary.input(frame, epoch, after);
    };
    input(&mut pair, 1);
    pair.stop(1);
    assert!(
        pair.secondary.next_input(pair.now).is_none(),
        "it is loading"
    );
    pair.tell(Monitor::Resume);
    input(&mut pair, 2);
    assert!(
        pair.secondary.next_input(pair.now).is_none(),
        "the epoch was not told yet"
    );
    pair.exchange();
    let next = pair.secondary.next_input(pair.now);
    assert_eq!(next.map(|f| says(&f)), Some(2), "the first is in the state");
    assert_eq!(pair.secondary.counts().stale, 1);
}

#[test]
fn an_svm_that_blinks_is_polled_again_after_the_next_commit() {
    let mut pair = Pair::protected();
    // An operator stops the SVM and lets it go on; that looks like a load.
    pair.secondary.guest_stopped();
    pair.secondary.guest_started(1, true);
    assert!(!pair.secondary.wants_output());
    pair.output(datagram(1));
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    pair.stop(2);
    pair.tell(Monitor::Resume);
    pair.exchange();
    assert!(pair.secondary.wants_output());
    assert_eq!(pair.released(), [1]);
}

#[test]
fn a_driver_that_resets_alone_goes_on_in_its_epoch() {
    let mut pair = Pair::protected();
    pair.secondary.guest_stopped();
    pair.secondary.guest_started(0, false);
    assert!(!pair.secondary.wants_output(), "the start of an older stop");
    pair.secondary.guest_started(1, false);
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), [1]);
}

#[test]
fn an_epoch_that_is_told_too_late_is_reported() {
    let mut pair = Pair::protected();
    pair.stop(1);
    pair.tell(Monitor::Resume);
    // The SVM stops and starts once more before it hears of that.
    pair.secondary.guest_stopped();
    pair.exchange();
    pair.secondary.guest_started(2, true);
    assert!(pair.secondary.wants_output());
    pair.primary.guest_stopped();
    pair.tell(Monitor::Stop);
    pair.tell(Monitor::Pass);
    pair.tell(Monitor::Resume);
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), NOTHING, "it bears the old number");
    pair.exchange();
    assert_eq!(pair.request(), Some(Cause::InputLost));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), [1]);
}

#[test]
fn a_restarted_secondary_is_believed_after_a_commit() {
    let mut pair = Pair::protected();
    pair.secondary = Secondary::new(setup(3), pair.now);
    pair.secondary.guest_started(0, true);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.request(), Some(Cause::PeerRestarted));
    assert!(!pair.secondary.wants_output());
    pair.output(datagram(1));
    pair.stop(1);
    pair.tell(Monitor::Resume);
    assert_eq!(pair.released(), [1]);
    pair.exchange();
    assert!(pair.secondary.wants_output());
}

fn bare() -> Bare<HeapFrame> {
    let mut bare = Bare::new(setup(1));
    bare.monitor(IN_COLO, 0);
    bare
}

fn bare_released(bare: &mut Bare<HeapFrame>) -> Vec<u8> {
    std::iter::from_fn(|| bare.next_release())
        .map(|release| says(&release.frame))
        .collect()
}

#[test]
fn the_bare_comparator_commits_at_a_checkpoints_resume() {
    for pass in [false, true] {
        let mut bare = bare();
        bare.primary(datagram(1), 1);
        bare.monitor(Monitor::Stop, 2);
        assert!(!bare.wants_primary());
        bare.secondary(datagram(1), 2);
        if pass {
            bare.monitor(Monitor::Pass, 2);
        }
        assert_eq!(bare_released(&mut bare), NOTHING);
        bare.monitor(Monitor::Resume, 3);
        assert_eq!(bare_released(&mut bare).len(), usize::from(pass));
        assert_eq!(bare.next_request(4).is_some(), !pass);
    }
}

#[test]
fn the_bare_comparator_compares_nothing_after_it_lost_its_monitor() {
    let mut bare = bare();
    bare.primary(datagram(1), 1);
    bare.monitor(Monitor::Disconnected, 2);
    // Whatever happened meanwhile, these may be of two epochs.
    bare.secondary(datagram(1), 3);
    assert_eq!(bare_released(&mut bare), NOTHING);
    bare.monitor(IN_COLO, 4);
    let request = bare.next_request(5).expect("a checkpoint is needed");
    assert_eq!(request.cause, Cause::MonitorLost);
    bare.monitor(Monitor::Stop, 6);
    bare.monitor(Monitor::Pass, 6);
    bare.monitor(Monitor::Disconnected, 7);
    bare.monitor(IN_COLO, 8);
    bare.monitor(Monitor::Resume, 9);
    assert_eq!(
        bare_released(&mut bare),
        NOTHING,
        "which stop this ended is unknown"
    );
    assert!(bare.next_request(10).is_some());
    bare.monitor(Monitor::Stop, 11);
    bare.monitor(Monitor::Pass, 11);
    bare.monitor(Monitor::Resume, 12);
    assert_eq!(bare_released(&mut bare), [1]);
}
