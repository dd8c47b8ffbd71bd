//! Publishes the counters of the pure modules.

use super::clock::Clock;
use super::port_queue::PortQueue;
use crate::compare::{Comparator, Reason};
use crate::config::PortRole;
use crate::dpdk::{Mbuf, tsc};
use crate::link::Endpoint;
use crate::link::secure::Counts as Void;
use crate::observability::counters::{Counter, Writer};
use crate::observability::latency::Recorder;
use crate::protect::{Cause, Checkpoints, Comparison, Primary, Secondary, Standalone};
use crate::spread::Dispatcher;

/// Where one pair's poll core leaves its figures.
pub(crate) struct PairMetrics {
    writer: Writer,
    /// Its histograms.
    pub latency: Recorder,
}

impl PairMetrics {
    /// Counters and histograms of one pair.
    pub(crate) fn new(writer: Writer, latency: Recorder) -> Self {
        Self { writer, latency }
    }

    /// The counters' writing end.
    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }
}

/// The ports' frames, in the order of the pair's places.
pub(crate) fn queues(writer: &Writer, queues: [&PortQueue; 3]) {
    const NAMES: [[Counter; 3]; 3] = [
        [Counter::Rx0, Counter::Tx0, Counter::Dropped0],
        [Counter::Rx1, Counter::Tx1, Counter::Dropped1],
        [Counter::Rx2, Counter::Tx2, Counter::Dropped2],
    ];
    for (queue, [rx, tx, dropped]) in queues.into_iter().zip(NAMES) {
        writer.set(rx, queue.received);
        writer.set(tx, queue.sent);
        writer.set(dropped, queue.dropped);
    }
}

/// The same for a node with a VM, which may have no uplink.
pub(crate) fn lanes_of_guest(
    writer: &Writer,
    guest: &PortQueue,
    uplink: Option<&PortQueue>,
    link: &PortQueue,
) {
    let queues = [
        (PortRole::Guest, Some(guest)),
        (PortRole::Uplink, uplink),
        (PortRole::Link, Some(link)),
    ];
    for (place, queue) in queues {
        let Some(queue) = queue else {
            continue;
        };
        writer.set(Counter::rx(place), queue.received);
        writer.set(Counter::tx(place), queue.sent);
        writer.set(Counter::dropped(place), queue.dropped);
    }
}

/// What a primary counts.
pub(crate) fn primary(writer: &Writer, state: &Primary<Mbuf>, void: Void, clock: Clock) {
    comparison(writer, state.comparison());
    link(writer, state.link(), void, Counter::LinkLostOutput);
    peer(writer, state.link(), clock);
    let own = state.counts();
    writer.set(Counter::Mirrored, own.mirrored);
    writer.set(Counter::Unmirrored, own.unmirrored);
    writer.set(Counter::SecondaryDroppedStale, own.stale);
    writer.set(Counter::Discarded, own.discarded);
    writer.set(Counter::Held, state.held() as u64);
    writer.set(Counter::PeerLosses, own.losses);
    writer.set(Counter::Untranslated, own.untranslated);
    writer.set(Counter::OffsetsLost, own.offsets_lost);
    writer.set(Counter::TakenOver, u64::from(state.takeover().is_some()));
    let epochs = state.epochs();
    writer.set(Counter::Superseded, u64::from(epochs.is_superseded()));
    writer.set(Counter::PeerGone, u64::from(epochs.is_peer_gone()));
    // This node may have been the secondary before.
    writer.set(Counter::Promotable, 0);
    writer.set(Counter::Epoch, u64::from(state.epoch()));
    writer.set(Counter::Epochs, u64::from(state.epoch()));
    writer.set(Counter::State, state.state() as u64);
}

/// What a secondary counts.
pub(crate) fn secondary(writer: &Writer, state: &Secondary<Mbuf>, void: Void, clock: Clock) {
    link(writer, state.link(), void, Counter::LinkLostInput);
    peer(writer, state.link(), clock);
    let own = state.counts();
    writer.set(Counter::PeerLosses, own.losses);
    writer.set(Counter::PeerGone, u64::from(state.is_peer_gone()));
    writer.set(Counter::Promotable, u64::from(state.is_promotable()));
    writer.set(Counter::Mirrored, own.delivered);
    writer.set(Counter::InputStale, own.stale);
    writer.set(Counter::Untranslated, own.untranslated);
    let rewriter = state.rewriter().counters();
    writer.set(Counter::OffsetsLost, rewriter.evicted);
    writer.set(Counter::Epoch, u64::from(state.epoch()));
    writer.set(Counter::Epochs, own.epochs);
    writer.set(Counter::State, state.state() as u64);
}

/// What a standalone comparator counts.
pub(crate) fn standalone(writer: &Writer, state: &Standalone<Mbuf>) {
    comparison(writer, state.comparison());
    writer.set(Counter::SecondaryDroppedStale, state.stale());
    writer.set(Counter::Discarded, state.comparison().discarded());
    writer.set(Counter::Epoch, u64::from(state.epoch()));
    writer.set(Counter::Epochs, u64::from(state.epoch()));
    writer.set(Counter::State, state.state() as u64);
}

/// What a comparator and its findings come to.
fn comparison(writer: &Writer, comparison: &Comparison<Mbuf>) {
    dispatcher(writer, comparison.comparator());
    checkpoints(writer, comparison.checkpoints());
}

/// Publishes the counters of the polling core's comparator. Each worker publishes its own.
fn dispatcher(writer: &Writer, dispatcher: &Dispatcher<Mbuf>) {
    comparator(writer, dispatcher.local());
    let overflows = dispatcher.local().counts().secondary_overflow + dispatcher.overflows();
    writer.set(Counter::SecondaryOverflow, overflows);
}

/// What a comparator counts.
pub(crate) fn comparator(writer: &Writer, comparator: &Comparator<Mbuf>) {
    let counts = comparator.counts();
    writer.set(
        Counter::Released,
        counts.released + counts.committed + counts.exempted,
    );
    writer.set(Counter::ReleasedEqual, counts.released);
    writer.set(Counter::ReleasedByCommit, counts.committed);
    writer.set(Counter::PathPaired, counts.paired);
    writer.set(Counter::PathInOrder, counts.in_order);
    writer.set(Counter::PathGeneral, counts.general);
    writer.set(Counter::Divided, counts.divided);
    writer.set(Counter::Overtakes, counts.overtakes);
    writer.set(Counter::ResetDropped, counts.reset_dropped);
    writer.set(Counter::ClosedResets, counts.closed_resets);
    writer.set(Counter::Held, comparator.held() as u64);
    writer.set(Counter::HeldMax, counts.held_max);
    writer.set(Counter::Flows, comparator.flows() as u64);
    writer.set(
        Counter::Unreadable,
        counts.unreadable_primary + counts.unreadable_secondary,
    );
    writer.set(Counter::SecondaryOverflow, counts.secondary_overflow);
    writer.set(Counter::FlowTableFull, counts.flow_table_full);
    for (reason, n) in Reason::ALL.iter().zip(counts.divergences) {
        let cause = Cause::Difference(*reason);
        if cause.is_counted_by_comparator() {
            writer.set(divergence(cause), n);
        }
    }
    let mut uses = comparator.policy().uses();
    for counter in [
        Counter::PolicyArp,
        Counter::PolicyNeighbourDiscovery,
        Counter::PolicyLldp,
        Counter::PolicyIgmp,
        Counter::PolicyMld,
    ] {
        writer.set(counter, uses.next().map_or(0, |(_, n)| n));
    }
    for (i, (_, n)) in uses.enumerate() {
        writer.set_rule(i, n);
    }
}

/// Requests, commits and the causes that the comparator does not count.
fn checkpoints(writer: &Writer, checkpoints: &Checkpoints) {
    writer.set(Counter::Requests, checkpoints.requested());
    writer.set(Counter::DelayedRequests, checkpoints.delayed());
    writer.set(Counter::Commits, checkpoints.committed_count());
    writer.set(
        Counter::UnprovenStops,
        u64::from(checkpoints.unproven_count()),
    );
    for cause in Cause::all().filter(|cause| !cause.is_counted_by_comparator()) {
        writer.set(divergence(cause), checkpoints.count(cause));
    }
}

/// The link's frames and what did not count of them; `lost` is what a loss on the way here means.
fn link(writer: &Writer, link: &Endpoint, void: Void, lost: Counter) {
    let counts = link.counts();
    writer.set(lost, counts.lost);
    writer.set(Counter::LinkRetransmitted, counts.retransmitted);
    writer.set(Counter::LinkDuplicates, counts.duplicates);
    writer.set(Counter::LinkSessions, counts.sessions);
    let (sent, received) = (&counts.sent_bytes, &counts.received_bytes);
    writer.set(Counter::LinkSentData, sent.data);
    writer.set(Counter::LinkSentControl, sent.control);
    writer.set(Counter::LinkSentHeartbeat, sent.heartbeat);
    writer.set(Counter::LinkReceivedData, received.data);
    writer.set(Counter::LinkReceivedControl, received.control);
    writer.set(Counter::LinkReceivedHeartbeat, received.heartbeat);
    writer.set(Counter::LinkGarbage, counts.garbage + void.garbage);
    writer.set(Counter::LinkForged, void.forged);
    writer.set(Counter::LinkStale, void.stale);
    writer.set(Counter::LinkForeign, void.foreign);
}

/// When the peer was heard.
fn peer(writer: &Writer, link: &Endpoint, clock: Clock) {
    let silence = clock.ns(link.since_heard(tsc::now())) / 1_000_000;
    writer.set(Counter::PeerSilence, silence);
}

/// The counter of a cause.
fn divergence(cause: Cause) -> Counter {
    match cause {
        Cause::Difference(reason) => match reason {
            Reason::Payload => Counter::DivergedPayload,
            Reason::StreamEnd => Counter::DivergedStreamEnd,
            Reason::SynOptions => Counter::DivergedSynOptions,
            Reason::Urgent => Counter::DivergedUrgent,
            Reason::Headers => Counter::DivergedHeaders,
            Reason::SecondaryInconsistent => Counter::DivergedSecondaryInconsistent,
            Reason::MissingSecondary => Counter::DivergedMissingSecondary,
            Reason::MissingPrimary => Counter::DivergedMissingPrimary,
            Reason::AckAhead => Counter::DivergedAckAhead,
            Reason::Unreadable => Counter::DivergedUnreadable,
            Reason::FlowTableFull => Counter::DivergedFlowTableFull,
            Reason::FlowHold => Counter::DivergedFlowHold,
            Reason::HalfOpenHold => Counter::DivergedHalfOpenHold,
            Reason::DatagramHold => Counter::DivergedDatagramHold,
            Reason::HoldFull => Counter::DivergedHoldFull,
            Reason::SecondaryOverflow => Counter::DivergedSecondaryOverflow,
            Reason::WorkerStalled => Counter::DivergedWorkerStalled,
        },
        Cause::InputLost => Counter::DivergedInputLost,
        Cause::OutputLost => Counter::DivergedOutputLost,
        Cause::PeerRestarted => Counter::DivergedPeerRestarted,
        Cause::LinkDown => Counter::DivergedLinkDown,
        Cause::GuestReset => Counter::DivergedGuestReset,
        Cause::MonitorLost => Counter::DivergedMonitorLost,
        Cause::Unproven => Counter::DivergedUnproven,
    }
}
