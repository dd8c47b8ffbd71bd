//! The last segment that the SVM sent on each connection, to be sent once more at the takeover.
//!
//! What the SVM sent to a primary that was about to die never left, and the next to speak would be
//! the retransmission timer of one end, 0.2 s and more (RFC 6298). Sent again, the last segment is
//! the answer that the client waits for, the acknowledgment that it lacks, or the end of a longer
//! burst, which its SACK makes the SVM fill. To TCP it is a retransmission, with the bytes that
//! the SVM has sent and will send again, so no rule knows it from the SVM's own. An acknowledgment without data
//! does not take the place of data before it: both are kept.
//!
//! In go the frames as the link got them, and what each client was heard to send. When the SVM loads
//! a state, what it has sent does not count any more and must not leave; it still shows
//! its clients. Memory is bounded by buffers, which all come from the pool of the SVM's output (rule R10). A connection
//! of which a SYN or SYN+ACK is all that was sent makes room first, and takes no room from any other.

use crate::flow::{FlowId, FlowKey, FlowTable, Standing};
use crate::frame::Frame;
use crate::packet::Packet;
use crate::packet::serial::before;

/// Numbers that [`CachedSegment::awaited`] gives at most.
pub const AWAITED: usize = 3;

/// Connections whose last segment is kept.
const CONNECTIONS: usize = 1024;

/// The last segment of a connection.
pub struct CachedSegment<F> {
    /// As it went to the link.
    pub frame: F,
    /// The state that the VM runs has sent it.
    pub counts: bool,
    /// What the client has sent last.
    pub heard: Option<Heard>,
}

/// The last segment of a client that takes a place in its stream, in sequence numbers (RFC 9293, 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    first: u32,
    next: u32,
}

impl Heard {
    fn of(packet: &Packet) -> Option<Self> {
        let (first, len) = (packet.tcp.seq, packet.sequence_len());
        (len > 0).then(|| Self {
            first,
            next: first.wrapping_add(len),
        })
    }
}

impl<F> CachedSegment<F> {
    /// What the client may lack an acknowledgment from: what the frame acknowledges, and both ends of
    /// the client's last segment. The VM's state may be older than what the client was sent before.
    pub fn awaited(&self, acknowledged: u32) -> [Option<u32>; AWAITED] {
        let [first, next] = match self.heard {
            Some(heard) => [Some(heard.first), Some(heard.next)],
            None => [None; 2],
        };
        let other = |number: &u32| *number != acknowledged;
        [Some(acknowledged), first.filter(other), next.filter(other)]
    }
}

struct Kept<F> {
    frame: F,
    /// A segment without data that came behind one with data.
    acknowledgment: Option<F>,
    /// The frame takes no place in the stream.
    bare: bool,
    heard: Option<Heard>,
    /// States that the SVM had loaded.
    loads: u64,
}

impl<F: Frame> Kept<F> {
    fn buffers(&self) -> usize {
        self.frame.buffers() + self.acknowledgment.as_ref().map_or(0, F::buffers)
    }
}

/// The last segment of each connection, in the order in which they were sent.
pub(super) struct RetransmitCache<F> {
    kept: FlowTable<Kept<F>>,
    loads: u64,
    hash_seed: u64,
    buffers: usize,
    limit: usize,
}

impl<F: Frame> RetransmitCache<F> {
    /// The seed of its table.
    #[cfg(test)]
    pub(super) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// None yet, and never more than `limit` buffers of frames. The seed should be one that clients
    /// cannot guess.
    pub(crate) fn new(limit: usize, hash_seed: u64) -> Self {
        Self {
            kept: FlowTable::new(CONNECTIONS.min(limit)),
            loads: 0,
            hash_seed,
            buffers: 0,
            limit,
        }
    }

    /// Frames that are kept.
    pub(crate) fn len(&self) -> usize {
        let both = |kept: &Kept<F>| 1 + usize::from(kept.acknowledgment.is_some());
        self.kept.iter().map(|(_, _, kept)| both(kept)).sum()
    }

    /// Takes in what a connection has sent last; `bare`: it takes no place in the stream. Where room is short the
    /// connections go that have been silent for longest.
    pub(crate) fn keep(&mut self, flow: FlowKey, frame: F, bare: bool) {
        self.keep_as(Standing::Lasting, flow, frame, bare);
    }

    /// The same with a segment that opens a connection.
    pub(crate) fn keep_opening(&mut self, flow: FlowKey, frame: F) {
        self.keep_as(Standing::Provisional, flow, frame, false);
    }

    fn keep_as(&mut self, standing: Standing, flow: FlowKey, frame: F, bare: bool) {
        let hash = flow.hash_seeded(self.hash_seed);
        let loads = self.loads;
        self.buffers += frame.buffers();
        if let Some(id) = self.kept.find(&flow, hash) {
            let kept = &mut self.kept[id];
            let old = kept.acknowledgment.take();
            self.buffers -= old.as_ref().map_or(0, F::buffers);
            if bare && kept.loads == loads && !kept.bare {
                kept.acknowledgment = Some(frame);
            } else {
                self.buffers -= kept.frame.buffers();
                (kept.frame, kept.bare, kept.loads) = (frame, bare, loads);
            }
            self.kept.set_standing(id, standing);
            self.kept.touch(id);
        } else {
            if self.kept.len() == self.kept.capacity() {
                self.make_room(standing);
            }
            let buffers = frame.buffers();
            let kept = Kept {
                frame,
                acknowledgment: None,
                bare,
                heard: None,
                loads,
            };
            // Without room nothing is kept.
            if self.kept.insert_as(standing, flow, hash, kept).is_err() {
                self.buffers -= buffers;
            }
        }
        while self.buffers > self.limit {
            self.forget_oldest();
        }
    }

    /// Takes in what a client has sent to the VM, whether the SVM gets it or not.
    pub(crate) fn hear(&mut self, packet: &Packet) {
        let Some(heard) = Heard::of(packet) else {
            return;
        };
        let flow = packet.key.reversed();
        if let Some(id) = self.kept.find(&flow, flow.hash_seeded(self.hash_seed)) {
            let last = &mut self.kept[id].heard;
            if last.is_none_or(|last| !before(heard.next, last.next)) {
                *last = Some(heard);
            }
        }
    }

    /// The connection has nothing to send again.
    pub(crate) fn forget(&mut self, flow: &FlowKey) {
        if let Some(id) = self.kept.find(flow, flow.hash_seeded(self.hash_seed)) {
            self.buffers -= self.kept.remove(id).buffers();
        }
    }

    /// The SVM has loaded a state. Takes the same time for any number of connections.
    pub(crate) fn svm_loaded(&mut self) {
        self.loads += 1;
    }

    /// Takes out the one that was sent first; those that open a connection come last.
    pub(crate) fn next(&mut self) -> Option<CachedSegment<F>> {
        let established = self.kept.oldest_of(Standing::Lasting);
        let oldest = established.or_else(|| self.kept.oldest())?;
        let counts = self.kept[oldest].loads == self.loads;
        let heard = self.kept[oldest].heard;
        let frame = match self.kept[oldest].acknowledgment.take() {
            Some(next) => std::mem::replace(&mut self.kept[oldest].frame, next),
            None => self.kept.remove(oldest).frame,
        };
        self.buffers -= frame.buffers();
        Some(CachedSegment {
            frame,
            counts,
            heard,
        })
    }

    /// Makes room for a connection, if there is one that may give way to it.
    fn make_room(&mut self, standing: Standing) {
        if standing == Standing::Lasting {
            self.forget_oldest();
        } else if let Some(id) = self.kept.oldest_of(Standing::Provisional) {
            self.remove(id);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.kept.oldest() {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: FlowId) {
        self.buffers -= self.kept.remove(id).buffers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HeapFrame;
    use crate::packet::{Kind, TcpFlags};

    fn flow(port: u16) -> FlowKey {
        FlowKey::tcp(([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into())
    }

    fn frame(says: u8, buffers: usize) -> HeapFrame {
        HeapFrame::chain(&vec![&[says][..]; buffers])
    }

    fn said(last: &mut RetransmitCache<HeapFrame>) -> Vec<u8> {
        std::iter::from_fn(|| last.next())
            .map(|last| last.frame.head()[0] + if last.counts { 0 } else { 100 })
            .collect()
    }

    #[test]
    fn each_connection_has_its_last_segment_in_the_order_of_sending() {
        let mut last = RetransmitCache::new(16, 1);
        for (port, says) in [(1, 10), (2, 20), (1, 11), (3, 30), (2, 21)] {
            last.keep(flow(port), frame(says, 1), false);
        }
        last.forget(&flow(3));
        assert_eq!(last.len(), 2);
        last.svm_loaded();
        last.keep(flow(1), frame(12, 1), false);
        assert_eq!(said(&mut last), [121, 12]);
        assert_eq!(last.buffers, 0);
    }

    #[test]
    fn a_client_is_heard_to_the_end_of_what_it_sent() {
        let mut last = RetransmitCache::new(16, 1);
        last.keep(flow(1), frame(1, 1), false);
        last.keep(flow(2), frame(2, 1), false);
        let mut says = |port, seq, flags, payload_len| {
            let mut packet = Packet::parse(&[], 0);
            (packet.key, packet.kind) = (flow(port).reversed(), Kind::Tcp);
            (packet.tcp.seq, packet.tcp.flags) = (seq, flags);
            packet.payload_len = payload_len;
            last.hear(&packet);
        };
        says(1, u32::MAX, TcpFlags::ACK, 3);
        says(1, u32::MAX - 5, TcpFlags::ACK, 6);
        says(1, 2, TcpFlags::ACK, 0);
        says(3, 2, TcpFlags::ACK, 10);
        says(2, 5, TcpFlags::FIN, 10);
        let heard: Vec<_> = std::iter::from_fn(|| last.next())
            .map(|last| last.awaited(2))
            .collect();
        assert_eq!(
            heard,
            [
                [Some(2), Some(u32::MAX), None],
                [Some(2), Some(5), Some(16)]
            ]
        );
    }

    #[test]
    fn an_acknowledgment_does_not_take_the_place_of_data() {
        let mut last = RetransmitCache::new(16, 1);
        for (says, bare) in [(1, true), (2, false), (3, true), (4, true)] {
            last.keep(flow(1), frame(says, 2), bare);
        }
        assert_eq!((last.len(), last.buffers), (2, 4));
        assert_eq!(said(&mut last), [2, 4]);
        last.keep(flow(1), frame(5, 1), false);
        last.keep(flow(1), frame(6, 1), true);
        last.keep(flow(1), frame(7, 1), false);
        assert_eq!(said(&mut last), [7]);
        last.keep(flow(1), frame(8, 1), false);
        last.svm_loaded();
        last.keep(flow(1), frame(9, 1), true);
        assert_eq!(said(&mut last), [9], "the data was of another state");
        last.keep(flow(1), frame(10, 1), false);
        last.keep(flow(1), frame(11, 1), true);
        last.forget(&flow(1));
        assert_eq!((last.len(), last.buffers), (0, 0));
    }

    #[test]
    fn connections_that_nobody_completes_take_no_place_from_an_open_one() {
        let mut last = RetransmitCache::new(CONNECTIONS, 1);
        last.keep(flow(1), frame(1, 1), true);
        for port in 0..u16::MAX {
            last.keep_opening(flow(port), frame(2, 1));
            if port == 1 {
                last.keep(flow(1), frame(3, 1), false);
            }
        }
        assert_eq!(last.buffers, CONNECTIONS);
        let said = said(&mut last);
        assert_eq!((said.len(), said[0]), (CONNECTIONS, 3));
        // Where all are open, one that opens is not kept, and one more that is open is.
        for port in 0..CONNECTIONS as u16 {
            last.keep(flow(port), frame(1, 1), false);
        }
        last.keep_opening(flow(u16::MAX), frame(2, 1));
        last.keep(flow(u16::MAX - 1), frame(3, 1), false);
        assert_eq!(last.buffers, CONNECTIONS);
        let said = self::said(&mut last);
        assert_eq!(
            said.iter().filter(|says| **says == 1).count(),
            CONNECTIONS - 1
        );
        assert_eq!(said.last(), Some(&3));
    }

    #[test]
    fn buffers_are_bounded_and_the_silent_ones_go_first() {
        let mut last = RetransmitCache::new(4, 1);
        for port in 0..4 {
            last.keep(flow(port), frame(port as u8, 1), false);
        }
        last.keep(flow(0), frame(40, 1), false);
        last.keep(flow(4), frame(4, 1), false);
        last.keep(flow(2), frame(42, 2), false);
        assert_eq!(last.buffers, 4);
        assert_eq!(said(&mut last), [40, 4, 42]);
        last.keep(flow(1), frame(1, 5), false);
        assert_eq!(
            (last.len(), last.buffers),
            (0, 0),
            "longer than all the room"
        );
        let mut none = RetransmitCache::new(0, 1);
        none.keep(flow(1), frame(1, 1), false);
        assert_eq!((none.len(), none.buffers), (0, 0));
    }
}
