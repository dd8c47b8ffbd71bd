//! Counters of one poll core for one VM pair.
//!
//! The poll core holds the only [`Writer`] and stores with relaxed order, without a locked
//! instruction; control threads hold [`Reader`]s and load. A reader sees each counter as it was a
//! moment ago, not all of them at one instant. A new counter is one line in the list below: its
//! name, its group and what it counts; the summary, telemetry and the metrics pick it up by its
//! group.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::config::PortRole;

/// Where a counter stands in the summary, and for a metric of its own what that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Below a port's name.
    Port,
    /// A key of its own.
    Node(Shape),
    /// The key `state`, as a word.
    State,
    /// Below `checkpoints`.
    Checkpoint(Shape),
    /// Below a core's number.
    Core(Shape),
    /// Below `input`: the PVM's input on its way to the SVM.
    Input,
    /// Below `paths`: which path of the comparator took a frame of the PVM in.
    Path,
    /// Below `link`: frames between the nodes.
    Link,
    /// Below `link_sent_bytes`: bytes for the other node, by what their frame is.
    LinkSent,
    /// Below `link_received_bytes`: bytes of the other node.
    LinkReceived,
    /// Below `peer`: whether the other node is there, and whether this one has taken its place.
    Peer(Shape),
    /// Below `divergences`: what led to a request for a checkpoint.
    Divergence,
    /// Below `policy`: frames that left uncompared under a default rule.
    Policy,
    /// Below `faults`: bad input and exhausted bounds.
    Fault,
}

/// What a metric of a counter's own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It only grows, in this unit; without one where the name says what is counted.
    Total(&'static str),
    /// It grows and shrinks, in this unit.
    Level(&'static str),
    /// It only grows, in nanoseconds; the metric has seconds.
    TotalNs,
    /// It grows and shrinks, in nanoseconds; the metric has seconds.
    LevelNs,
    /// It grows and shrinks, in milliseconds; the metric has seconds.
    LevelMs,
}

/// How the values of several poll cores make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Their sum.
    Sum,
    /// The greatest.
    Max,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $counter:ident = $name:literal, $group:expr, $fold:ident;)+) => {
        /// Every counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Counter {
            $($(#[doc = $doc])+ $counter,)+
        }

        impl Counter {
            /// All counters, in the order of their values.
            pub const ALL: &[Self] = &[$(Self::$counter,)+];

            /// Its key in the summary.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$counter => $name,)+ }
            }

            /// What it counts, in one sentence.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$counter => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// Where it stands in the summary.
            pub const fn group(self) -> Group {
                use Group::*;
                use Shape::*;
                match self { $(Self::$counter => $group,)+ }
            }

            /// How the values of several poll cores make one.
            pub const fn fold(self) -> Fold {
                match self { $(Self::$counter => Fold::$fold,)+ }
            }
        }
    };
}

counters! {
    /// Frames taken from the pair's first port.
    Rx0 = "rx", Port, Sum;
    /// Frames taken from the pair's second port.
    Rx1 = "rx", Port, Sum;
    /// Frames taken from the pair's third port.
    Rx2 = "rx", Port, Sum;
    /// Frames given to the pair's first port.
    Tx0 = "tx", Port, Sum;
    /// Frames given to the pair's second port.
    Tx1 = "tx", Port, Sum;
    /// Frames given to the pair's third port.
    Tx2 = "tx", Port, Sum;
    /// Frames that the pair's first port did not take.
    Dropped0 = "dropped", Port, Sum;
    /// Frames that the pair's second port did not take.
    Dropped1 = "dropped", Port, Sum;
    /// Frames that the pair's third port did not take.
    Dropped2 = "dropped", Port, Sum;

    /// Frames of the PVM that left for the network.
    Released = "released", Node(Total("frames")), Sum;
    /// Frames of the PVM that left because the SVM sent the same.
    ReleasedEqual = "released_equal", Node(Total("frames")), Sum;
    /// Frames of the PVM that left because a commit covers them.
    ReleasedByCommit = "released_by_commit", Node(Total("frames")), Sum;
    /// Parts of unsegmented frames of the PVM that left before the rest.
    Divided = "divided", Node(Total("frames")), Sum;
    /// Retransmissions and bare acknowledgments that left before older frames of their connection.
    Overtakes = "overtakes", Node(Total("frames")), Sum;
    /// Frames of the PVM that were dropped because their client had reset the connection.
    ResetDropped = "reset_dropped", Node(Total("frames")), Sum;
    /// RSTs of one VM alone for a connection that both had closed.
    ClosedResets = "closed_resets", Node(Total("")), Sum;
    /// Flows that are known.
    Flows = "flows", Core(Level("")), Sum;
    /// Frames of the PVM that wait now.
    Held = "held", Node(Level("frames")), Sum;
    /// Most frames of the PVM that ever waited, for several poll cores an upper bound.
    HeldMax = "held_max", Node(Level("frames")), Sum;
    /// Checkpoints asked for.
    Requests = "requested", Checkpoint(Total("")), Sum;
    /// Requests that waited until the VM had run for its share of the time.
    DelayedRequests = "delayed", Checkpoint(Total("")), Sum;
    /// Checkpoints whose commit was seen.
    Commits = "committed", Checkpoint(Total("")), Sum;
    /// Stops in a row since the last commit that nothing has proven to be a checkpoint.
    UnprovenStops = "unproven_stops", Checkpoint(Level("")), Max;
    /// Epochs begun.
    Epochs = "epochs", Node(Total("")), Max;
    /// Number of the current epoch.
    Epoch = "epoch", Node(Level("")), Max;
    /// Code of the node's state.
    State = "state", State, Max;
    /// Rounds of the poll loop.
    Polls = "polls", Node(Total("")), Sum;
    /// Cycles in rounds that found work.
    BusyCycles = "busy_cycles", Node(Total("")), Sum;
    /// Cycles in rounds that found none.
    IdleCycles = "idle_cycles", Node(Total("")), Sum;
    /// Longest time from one round of a core to the next, `--idle-sleep` aside.
    LongestRound = "longest_round_ns", Node(LevelNs), Max;
    /// Time of rounds beyond a millisecond each: the core had no CPU.
    LostTime = "lost_time_ns", Node(TotalNs), Max;

    /// Frames of the PVM that were compared together with the SVM's.
    PathPaired = "paired", Path, Sum;
    /// Frames of the PVM that came by themselves and in order.
    PathInOrder = "in_order", Path, Sum;
    /// All other frames of the PVM, policy's exempted ones aside.
    PathGeneral = "general", Path, Sum;

    /// Input frames mirrored to the secondary node, or by it to the SVM.
    Mirrored = "mirrored", Input, Sum;
    /// Times the SVM's ring was full, so that input waited.
    InputWaits = "waits", Input, Sum;
    /// Input given to the PVM that could not be mirrored.
    Unmirrored = "unmirrored", Input, Sum;
    /// Mirrored frames of an epoch that the SVM has left.
    InputStale = "stale", Input, Sum;

    /// Released frames for a VM of the same host, at an uplink that both pairs share.
    CrossedLocally = "crossed_locally", Node(Total("frames")), Sum;
    /// Frames at shared ports that are for no pair; the first pair of a port has them.
    Strays = "strays", Node(Total("frames")), Sum;

    /// Frames that the network sent to a secondary and that its VM never gets.
    InputIgnored = "ignored", Input, Sum;

    /// Times the peer was lost.
    PeerLosses = "losses", Peer(Total("")), Sum;
    /// Time since the peer was heard.
    PeerSilence = "silence_ms", Peer(LevelMs), Max;
    /// Whether this node began as the secondary and has taken over: 1 if so.
    TakenOver = "taken_over", Peer(Level("")), Max;
    /// Whether another VM goes on in the place of this node's, which is silent: 1 if so.
    Superseded = "superseded", Peer(Level("")), Max;
    /// Whether the peer is lost and its VM certainly sends nothing any more: 1 if so.
    PeerGone = "certainly_lost", Peer(Level("")), Max;
    /// Whether the SVM could go on without loss, were the primary certainly down: 1 if so.
    Promotable = "promotable", Peer(Level("")), Max;
    /// Mirrored input frames lost on the link.
    LinkLostInput = "lost_input", Link, Sum;
    /// Output frames of the SVM lost on the link.
    LinkLostOutput = "lost_output", Link, Sum;
    /// Control messages sent again for want of an acknowledgment.
    LinkRetransmitted = "retransmitted", Link, Sum;
    /// Data frames that came twice or late.
    LinkDuplicates = "duplicates", Link, Sum;
    /// Sessions that began between the two nodes.
    LinkSessions = "sessions", Link, Sum;
    /// Frames of the SVM dropped because their epoch is over.
    SecondaryDroppedStale = "secondary_dropped_stale", Link, Sum;

    /// Bytes of mirrored input or of the SVM's output, with their headers.
    LinkSentData = "data", LinkSent, Sum;
    /// Bytes of messages about epochs and connections.
    LinkSentControl = "control", LinkSent, Sum;
    /// Bytes of heartbeats and acknowledgments.
    LinkSentHeartbeat = "heartbeat", LinkSent, Sum;
    /// Bytes of mirrored input or of the SVM's output, with their headers.
    LinkReceivedData = "data", LinkReceived, Sum;
    /// Bytes of messages about epochs and connections.
    LinkReceivedControl = "control", LinkReceived, Sum;
    /// Bytes of heartbeats and acknowledgments.
    LinkReceivedHeartbeat = "heartbeat", LinkReceived, Sum;

    /// A payload byte of the PVM differs from the SVM's at the same place.
    DivergedPayload = "payload", Divergence, Sum;
    /// One VM's stream ends where the other's goes on.
    DivergedStreamEnd = "stream_end", Divergence, Sum;
    /// A SYN's options or ECN bits do not agree.
    DivergedSynOptions = "syn_options", Divergence, Sum;
    /// Urgent data ends at different places.
    DivergedUrgent = "urgent", Divergence, Sum;
    /// Options, extension headers or the bytes behind a UDP datagram differ.
    DivergedHeaders = "headers", Divergence, Sum;
    /// The SVM sent two different bytes for one place of a stream.
    DivergedSecondaryInconsistent = "secondary_inconsistent", Divergence, Sum;
    /// The SVM has not sent within the timeout what the PVM sent.
    DivergedMissingSecondary = "missing_secondary", Divergence, Sum;
    /// The PVM has not sent within the timeout what the SVM sent.
    DivergedMissingPrimary = "missing_primary", Divergence, Sum;
    /// The SVM has not acknowledged within the timeout what the PVM acknowledges.
    DivergedAckAhead = "ack_ahead", Divergence, Sum;
    /// A frame that cannot be read waits for a checkpoint.
    DivergedUnreadable = "unreadable", Divergence, Sum;
    /// A frame waits whose flow found the flow table full.
    DivergedFlowTableFull = "flow_table_full", Divergence, Sum;
    /// Frames of one flow take half of what may be held of the PVM's.
    DivergedFlowHold = "flow_hold", Divergence, Sum;
    /// Frames of connections that are not established take half of what may be held of the PVM's.
    DivergedHalfOpenHold = "half_open_hold", Divergence, Sum;
    /// Frames of flows that have sent one datagram each take half of what may be held of the PVM's.
    DivergedDatagramHold = "datagram_hold", Divergence, Sum;
    /// No more frames of the PVM can be held.
    DivergedHoldFull = "hold_full", Divergence, Sum;
    /// Frames of the SVM found no room.
    DivergedSecondaryOverflow = "secondary_overflow", Divergence, Sum;
    /// A core that compares has not come to its frames within the timeout.
    DivergedWorkerStalled = "worker_stalled", Divergence, Sum;
    /// Input did not reach the SVM.
    DivergedInputLost = "input_lost", Divergence, Sum;
    /// Output of the SVM was lost on the link.
    DivergedOutputLost = "output_lost", Divergence, Sum;
    /// The other node was started again.
    DivergedPeerRestarted = "peer_restarted", Divergence, Sum;
    /// The link is silent.
    DivergedLinkDown = "link_down", Divergence, Sum;
    /// The guest's ring stopped and it was no checkpoint.
    DivergedGuestReset = "guest_reset", Divergence, Sum;
    /// The monitor was lost while the guest was stopped, or COLO was already under way.
    DivergedMonitorLost = "monitor_lost", Divergence, Sum;
    /// The VM stopped under COLO, and nothing proves that the SVM has loaded the state.
    DivergedUnproven = "unproven_stop", Divergence, Sum;

    /// ARP.
    PolicyArp = "arp", Policy, Sum;
    /// IPv6 neighbour discovery.
    PolicyNeighbourDiscovery = "neighbour_discovery", Policy, Sum;
    /// LLDP.
    PolicyLldp = "lldp", Policy, Sum;
    /// IGMP membership reports and leaves.
    PolicyIgmp = "igmp", Policy, Sum;
    /// MLD reports and dones.
    PolicyMld = "mld", Policy, Sum;

    /// Frames with truncated or contradicting headers.
    Unreadable = "unreadable", Fault, Sum;
    /// Frames on the link that are not of its protocol.
    LinkGarbage = "link_garbage", Fault, Sum;
    /// Frames on the link with a wrong tag.
    LinkForged = "link_forged", Fault, Sum;
    /// Frames on the link of an old session, or that had counted already.
    LinkStale = "link_stale", Fault, Sum;
    /// Frames on the link of a node with another version or key, or none, or of a second one with this key.
    LinkForeign = "link_foreign", Fault, Sum;
    /// Frames that the rewriter could not translate.
    Untranslated = "untranslated", Fault, Sum;
    /// Connections whose numbers the secondary has no room for.
    OffsetsLost = "offsets_lost", Fault, Sum;
    /// Frames of a PVM that is gone, dropped.
    Discarded = "discarded", Fault, Sum;
    /// Frames of the SVM that found no room.
    SecondaryOverflow = "secondary_overflow", Fault, Sum;
    /// Flows that found the table full.
    FlowTableFull = "flow_table_full", Fault, Sum;
    /// Divergences without a record: found while an earlier one still waited for the control thread.
    ReportsLost = "reports_lost", Fault, Sum;
}

impl Counter {
    /// Frames taken from the port at `place`.
    pub const fn rx(place: PortRole) -> Self {
        [Self::Rx0, Self::Rx1, Self::Rx2][place.slot()]
    }

    /// Frames given to the port at `place`.
    pub const fn tx(place: PortRole) -> Self {
        [Self::Tx0, Self::Tx1, Self::Tx2][place.slot()]
    }

    /// Whether it is shown of each core by itself.
    pub const fn is_of_core(self) -> bool {
        matches!(self.group(), Group::Core(_))
            || matches!(self, Self::BusyCycles | Self::IdleCycles | Self::Held)
    }

    /// Frames that the port at `place` did not take.
    pub const fn dropped(place: PortRole) -> Self {
        [Self::Dropped0, Self::Dropped1, Self::Dropped2][place.slot()]
    }
}

const COUNT: usize = Counter::ALL.len();

/// Makes the two ends of a block of counters that are all 0, with `rules` more for the policy rules
/// of the pair's settings, in their order.
pub fn published(rules: usize) -> (Writer, Reader) {
    let block = Arc::new(CachePadded::new(Block {
        values: [const { AtomicU64::new(0) }; COUNT],
        rules: (0..rules).map(|_| AtomicU64::new(0)).collect(),
    }));
    let reader = Reader {
        block: Arc::clone(&block),
    };
    let writer = Writer {
        block,
        not_sync: PhantomData,
    };
    (writer, reader)
}

struct Block {
    values: [AtomicU64; COUNT],
    rules: Box<[AtomicU64]>,
}

/// The end that counts. It may move to another thread but not be shared, so that a load and a
/// store make an addition.
pub struct Writer {
    block: Arc<CachePadded<Block>>,
    not_sync: PhantomData<Cell<()>>,
}

impl Writer {
    /// Adds `n`; wraps at 2^64.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let cell = &self.block.values[counter as usize];
        cell.store(
            cell.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Makes the value `n`.
    #[inline]
    pub fn set(&self, counter: Counter, n: u64) {
        self.block.values[counter as usize].store(n, Ordering::Relaxed);
    }

    /// Makes the value `n` if it is less.
    #[inline]
    pub fn raise(&self, counter: Counter, n: u64) {
        if self.value(counter) < n {
            self.set(counter, n);
        }
    }

    /// The value.
    #[inline]
    pub fn value(&self, counter: Counter) -> u64 {
        self.block.values[counter as usize].load(Ordering::Relaxed)
    }

    /// Makes the count of the policy rule at `index` of the pair's settings `n`; an index that is
    /// none counts nothing.
    #[inline]
    pub fn set_rule(&self, index: usize, n: u64) {
        if let Some(cell) = self.block.rules.get(index) {
            cell.store(n, Ordering::Relaxed);
        }
    }
}

/// An end that reads.
#[derive(Clone)]
pub struct Reader {
    block: Arc<CachePadded<Block>>,
}

impl Reader {
    /// One value, as it is now.
    pub fn value(&self, counter: Counter) -> u64 {
        self.block.values[counter as usize].load(Ordering::Relaxed)
    }

    /// All values, each as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            values: std::array::from_fn(|at| self.block.values[at].load(Ordering::Relaxed)),
            rules: self
                .block
                .rules
                .iter()
                .map(|cell| cell.load(Ordering::Relaxed))
                .collect(),
        }
    }
}

/// Values of all counters, of one poll core or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    values: [u64; COUNT],
    rules: Vec<u64>,
}

impl Snapshot {
    /// All 0, with `rules` policy rules.
    pub fn zero(rules: usize) -> Self {
        Self {
            values: [0; COUNT],
            rules: vec![0; rules],
        }
    }

    /// The value of `counter`.
    pub fn value(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// What each policy rule of the pair's settings counts, in their order: frames, or of a mask rule bytes or differences.
    pub fn rules(&self) -> &[u64] {
        &self.rules
    }

    /// Takes in the values of another poll core of the same pair.
    pub fn merge(&mut self, other: &Self) {
        for counter in Counter::ALL {
            let (mine, theirs) = (
                &mut self.values[*counter as usize],
                other.values[*counter as usize],
            );
            *mine = match counter.fold() {
                Fold::Sum => mine.wrapping_add(theirs),
                Fold::Max => theirs.max(*mine),
            };
        }
        for (mine, theirs) in self.rules.iter_mut().zip(&other.rules) {
            *mine = mine.wrapping_add(*theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_counter_has_its_index_a_unique_key_and_a_sentence() {
        let mut keys = HashSet::new();
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            let help = counter.help();
            assert!(help.ends_with('.') && !help.starts_with(' '), "{help:?}");
            if counter.group() != Group::Port {
                let key = (format!("{:?}", counter.group()), counter.name());
                assert!(keys.insert(key.clone()), "{key:?}");
            }
        }
    }

    #[test]
    fn the_reader_sees_what_the_writer_counted_on_another_thread() {
        let (writer, reader) = published(2);
        std::thread::spawn(move || {
            for n in [3, 9, 5] {
                writer.add(Counter::Released, n);
                writer.raise(Counter::HeldMax, n);
                writer.set(Counter::Held, n);
            }
            writer.add(Counter::tx(PortRole::Link), 4);
            writer.set_rule(1, 7);
            writer.set_rule(2, 7);
        })
        .join()
        .expect("the writer's thread");
        let seen = reader.snapshot();
        assert_eq!(seen.value(Counter::Released), 17);
        assert_eq!(seen.value(Counter::HeldMax), 9);
        assert_eq!(seen.value(Counter::Held), 5);
        assert_eq!(seen.value(Counter::Tx2), 4);
        assert_eq!(seen.rules(), [0, 7]);
    }

    #[test]
    fn cores_fold_into_one_by_sum_or_maximum() {
        let core = |released, epoch, rule| {
            let (writer, reader) = published(1);
            writer.add(Counter::Released, released);
            writer.set(Counter::Epoch, epoch);
            writer.set_rule(0, rule);
            reader.snapshot()
        };
        let mut total = Snapshot::zero(1);
        total.merge(&core(5, 3, 1));
        total.merge(&core(7, 2, 1));
        assert_eq!(total.value(Counter::Released), 12);
        assert_eq!(total.value(Counter::Epoch), 3);
        assert_eq!(total.rules(), [2]);
    }
}
