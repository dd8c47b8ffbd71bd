//! The numbers of connections that a policy rule exempts.
//!
//! Their frames leave at once and are not compared. But the SVM chose its own initial sequence number, and where it
//! has to go on for the PVM its client knows the PVM's alone. So the comparator looks at the SYN or SYN+ACK of both VMs,
//! and the primary sends both numbers to the secondary as it does for other connections, though after the PVM's has left.
//! Where such a SYN finds no counterpart within the timeout, or no room, the connection has no offset.

use std::collections::VecDeque;

use super::{Comparator, Numbers, Synchronized};
use crate::flow::{FlowKey, FlowTable};
use crate::frame::{Frame, Ticks};
use crate::packet::{Isn, Kind, Packet, TcpFlags};

/// SYNs of one VM that wait for the other's; the oldest makes room.
const WAITING: usize = 1024;
/// Connections whose numbers wait for the link; there is no room for more.
const FOUND: usize = 256;

struct Half {
    is_primary: bool,
    isn: Isn,
    arrived: Ticks,
}

/// The SYNs that have not met, and the numbers of those that have.
pub(super) struct Exempt {
    waiting: FlowTable<Half>,
    found: VecDeque<Synchronized>,
}

impl Exempt {
    /// None yet; without rules there never are any.
    pub(super) fn new(rules: bool) -> Self {
        let room = |most: usize| if rules { most } else { 0 };
        Self {
            waiting: FlowTable::new(room(WAITING)),
            found: VecDeque::with_capacity(room(FOUND)),
        }
    }

    /// The next numbers for the secondary.
    pub(super) fn next(&mut self) -> Option<Synchronized> {
        self.found.pop_front()
    }

    /// The SVM goes on with the PVM's numbers.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.found.clear();
    }

    /// Takes in a SYN; what waits for longer than `timeout` is another connection's.
    fn opens(&mut self, key: &FlowKey, hash: u64, half: Half, timeout: Ticks) {
        if let Some(id) = self.waiting.find(key, hash) {
            let other = self.waiting.remove(id);
            let late = half.arrived.saturating_sub(other.arrived) > timeout;
            if other.is_primary != half.is_primary && !late {
                let (pvm, svm) = match half.is_primary {
                    true => (half.isn, other.isn),
                    false => (other.isn, half.isn),
                };
                if self.found.len() < self.found.capacity() {
                    let flow = *key;
                    self.found.push_back(Synchronized { flow, pvm, svm });
                }
                return;
            }
        }
        if self.waiting.len() == self.waiting.capacity()
            && let Some(oldest) = self.waiting.oldest()
        {
            self.waiting.remove(oldest);
        }
        // Without rules there is no room.
        let _ = self.waiting.insert(*key, hash, half);
    }
}

impl<F: Frame> Comparator<F> {
    /// Looks at a frame that a rule exempts, of either VM.
    #[inline]
    pub(super) fn pass_by(
        &mut self,
        is_primary: bool,
        head: &[u8],
        packet: &Packet,
        hash: u64,
        now: Ticks,
    ) {
        let opens = packet.kind == Kind::Tcp && packet.tcp.flags.contains(TcpFlags::SYN);
        if !opens || self.numbers == Numbers::OwnIsn {
            return;
        }
        let half = Half {
            is_primary,
            isn: Isn::of(packet, head),
            arrived: now,
        };
        self.exempt
            .opens(&packet.key, hash, half, self.limits.timeout);
    }
}
