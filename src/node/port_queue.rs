//! One port of a pair on its poll core: a receive queue, a transmit queue, and a burst that waits for the latter.
//!
//! A frame that the port cannot send as it is goes through an [`Egress`], at the link through [`Sealing`]. It counts as
//! sent once that stage has taken it. All frames keep their order.

use super::egress::Egress;
use super::pool_headroom::PoolHeadroom;
use super::sealing::Sealing;
use super::shared_port::{RxEnd, SharedPorts, TxEnd, Way};
use crate::dpdk::{Abilities, Burst, Mbuf, Mempool, tsc};
use crate::link::secure::{Begun, Counts as Void, Guard, Notice};
use crate::switch::Standing;

/// A port's queues before a poll core has taken them.
pub(crate) struct Queues {
    /// How its frames come and go.
    pub way: Way,
    /// The offloads that the port does.
    pub abilities: Abilities,
    /// Bytes of the longest frame that it sends, without Ethernet header and tags; `None` for any.
    pub mtu: Option<usize>,
    /// Mbufs for segments, if frames may have to be segmented.
    pub cutting: Option<Mempool>,
    /// At a link: its guard, and mbufs for the guard's own frames.
    pub link: Option<(Guard, Mempool)>,
    /// The pool that it receives into, if a frame without mbufs would be lost.
    pub source: Option<Mempool>,
}

/// The stage that prepares frames for the port.
enum Fit {
    /// None.
    AsIs,
    /// For frames of guests and of the network.
    Port(Egress),
    /// For frames of the link.
    Link(Box<Sealing>),
}

impl Fit {
    #[inline]
    fn is_cutting(&self) -> bool {
        match self {
            Fit::AsIs => false,
            Fit::Port(egress) => egress.is_cutting(),
            Fit::Link(sealing) => sealing.is_busy(),
        }
    }

    #[inline]
    fn concerns(&self, frame: &Mbuf) -> bool {
        match self {
            Fit::AsIs => false,
            Fit::Port(egress) => egress.concerns(frame),
            Fit::Link(sealing) => sealing.concerns(frame),
        }
    }

    #[inline]
    fn is_due(&self) -> bool {
        match self {
            Fit::AsIs | Fit::Port(_) => false,
            Fit::Link(sealing) => sealing.is_due(),
        }
    }
}

/// A port in use by one poll core.
pub(crate) struct PortQueue {
    rx: RxEnd,
    tx: TxEnd,
    /// Frames to send, in order.
    pub out: Burst,
    /// Of those, by their places, the frames that stay on this host: other pairs have them already.
    local: u32,
    /// Frames that come behind a local one, while those in front of it are sent.
    behind: Burst,
    /// Prepared frames that the port has not taken yet. They come before `out`.
    wire: Burst,
    fit: Fit,
    /// Prepares received frames for the port that they go to.
    ingress: Option<Egress>,
    /// Received frames that are not prepared yet.
    raw: Burst,
    cutting: Option<Mempool>,
    source: Option<PoolHeadroom>,
    abilities: Abilities,
    /// Frames taken from the port.
    pub received: u64,
    /// Frames that the port took.
    pub sent: u64,
    /// Frames that the port did not take and that were dropped, received ones that cannot be prepared for the port that
    /// they go to, and those without room in a shared port's inbox.
    pub dropped: u64,
    /// Released frames that stayed on this host.
    pub crossed: u64,
    /// At a shared port's first pair: frames that were for no pair.
    pub strays: u64,
}

impl PortQueue {
    /// Takes the queues for this core, which has these shared ports.
    pub(crate) fn new(queues: Queues, shared: &SharedPorts) -> Self {
        let Queues {
            way,
            abilities,
            mtu,
            cutting,
            link,
            source,
        } = queues;
        let fit = match (link, cutting.clone()) {
            (Some((guard, headers)), cutting) => {
                Fit::Link(Box::new(Sealing::new(guard, headers, mtu, cutting)))
            }
            (None, Some(pool)) => Fit::Port(Egress::new(abilities, mtu, pool)),
            (None, None) => Fit::AsIs,
        };
        let (rx, tx) = way.enable(shared);
        Self {
            rx,
            tx,
            out: Burst::new(),
            local: 0,
            behind: Burst::new(),
            wire: Burst::new(),
            fit,
            ingress: None,
            raw: Burst::new(),
            cutting,
            source: source.map(PoolHeadroom::new),
            abilities,
            received: 0,
            sent: 0,
            dropped: 0,
            crossed: 0,
            strays: 0,
        }
    }

    /// The offloads that the port does.
    pub(crate) fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Prepares received frames for a port with these abilities.
    pub(crate) fn feeds(&mut self, abilities: Abilities) {
        self.ingress = self
            .cutting
            .clone()
            .map(|pool| Egress::new(abilities, None, pool));
    }

    /// Takes frames from the port into an empty burst, at most `most` where frames need not be cut.
    #[inline]
    pub(crate) fn receive(&mut self, burst: &mut Burst, most: usize) -> usize {
        if let Fit::Link(sealing) = &mut self.fit {
            let n = self.rx.rx_most(&mut self.raw, most);
            self.received += n as u64;
            let now = tsc::now();
            for frame in self.raw.drain() {
                if let Some(frame) = sealing.accept(frame, now) {
                    // No more frames come out than went in.
                    let _ = burst.push(frame);
                }
            }
            return n;
        }
        let Some(ingress) = &mut self.ingress else {
            if let Some(source) = &mut self.source
                && !source.suffices()
            {
                return 0;
            }
            let n = self.rx.rx_most(burst, most);
            self.received += n as u64;
            if let Some(source) = &mut self.source {
                source.used(burst);
            }
            return n;
        };
        if self.raw.is_empty() && !ingress.is_cutting() {
            let n = self.rx.rx(burst);
            self.received += n as u64;
            if !burst.iter().any(|frame| ingress.concerns(frame)) {
                return n;
            }
            std::mem::swap(burst, &mut self.raw);
        }
        ingress.fill(&mut self.raw, burst, None);
        // What cannot be segmented.
        self.dropped += std::mem::take(&mut ingress.refused);
        burst.len()
    }

    /// Sends the frames of a burst, which are prepared for the port. Frames that the port does not take stay in it.
    #[inline]
    pub(crate) fn transmit(&mut self, burst: &mut Burst) -> usize {
        if burst.is_empty() {
            return 0;
        }
        let n = self.tx.tx(burst);
        self.sent += n as u64;
        n
    }

    /// Sends the frames that wait. Returns the number that left.
    #[inline]
    pub(crate) fn flush(&mut self) -> usize {
        if self.local != 0 {
            return self.flush_mixed();
        }
        self.flush_network()
    }

    /// The same where some of them stay on this host. They leave in their order.
    fn flush_mixed(&mut self) -> usize {
        let mut left = 0;
        loop {
            while self.local & 1 == 1 {
                // Other pairs own it, too.
                drop(self.out.pop_front());
                self.local >>= 1;
                self.crossed += 1;
                left += 1;
            }
            let run = (self.local.trailing_zeros() as usize).min(self.out.len());
            if run == 0 {
                return left;
            }
            while self.out.len() > run
                && let Some(frame) = self.out.pop()
            {
                let _ = self.behind.push(frame);
            }
            let sent = self.flush_network();
            while let Some(frame) = self.behind.pop() {
                let _ = self.out.push(frame);
            }
            // All of a full burst may have left.
            self.local = self.local.checked_shr(sent as u32).unwrap_or(0);
            left += sent;
            if sent < run {
                return left;
            }
        }
    }

    #[inline]
    fn flush_network(&mut self) -> usize {
        if !self.wire.is_empty()
            || self.fit.is_cutting()
            || self.fit.is_due()
            || self.out.iter().any(|frame| self.fit.concerns(frame))
        {
            return self.flush_fitted();
        }
        if self.out.is_empty() {
            return 0;
        }
        let n = self.tx.tx(&mut self.out);
        self.sent += n as u64;
        n
    }

    fn flush_fitted(&mut self) -> usize {
        let mut left = 0;
        loop {
            let (out, wire) = (&mut self.out, &mut self.wire);
            left += match &mut self.fit {
                Fit::AsIs => 0,
                Fit::Port(egress) => egress.fill(out, wire, Some(&mut self.tx)),
                Fit::Link(sealing) => sealing.fill(out, wire),
            };
            if self.wire.is_empty() {
                break;
            }
            self.tx.tx(&mut self.wire);
            if !self.wire.is_empty() {
                break;
            }
        }
        let (refused, unheard) = match &mut self.fit {
            Fit::AsIs => (0, 0),
            Fit::Port(egress) => (std::mem::take(&mut egress.refused), 0),
            // Before there is a session, only the guard's greetings leave.
            Fit::Link(sealing) => (0, std::mem::take(&mut sealing.unheard)),
        };
        self.dropped += refused;
        self.sent += (left as u64).saturating_sub(refused + unheard);
        left
    }

    fn guard(&mut self) -> Option<&mut Guard> {
        match &mut self.fit {
            Fit::AsIs | Fit::Port(_) => None,
            Fit::Link(sealing) => Some(&mut sealing.guard),
        }
    }

    /// At a link: counts of the frames that did not count.
    pub(crate) fn void(&self) -> Void {
        match &self.fit {
            Fit::AsIs | Fit::Port(_) => Void::default(),
            Fit::Link(sealing) => *sealing.guard.counts(),
        }
    }

    /// At a link: the next notice for the log about its session or about foreign frames.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        self.guard()?.next_notice(tsc::now())
    }

    /// At a link: the session that its guard has begun since the last call.
    #[inline]
    pub(crate) fn take_session(&mut self) -> Option<Begun> {
        match &mut self.fit {
            Fit::AsIs | Fit::Port(_) => None,
            Fit::Link(sealing) => sealing.take_session(),
        }
    }

    /// At a link: see [`Guard::take_foreigner`].
    pub(crate) fn take_foreigner(&mut self) -> bool {
        self.guard().is_some_and(Guard::take_foreigner)
    }

    /// At a link: sends the peer a good-bye, so that a node started in this one's place need not wait.
    pub(crate) fn send_good_bye(&mut self) {
        self.flush();
        if let Fit::Link(sealing) = &mut self.fit
            && self.wire.is_empty()
            && let Some(frame) = sealing.good_bye()
        {
            // The burst has room. A good-bye that the port does not take is only a delay.
            let _ = self.wire.push(frame);
            self.tx.tx(&mut self.wire);
        }
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.wire.is_empty() && !self.fit.is_cutting()
    }

    /// Drops and counts the frames that wait, and counts `more` frames that would have followed.
    pub(crate) fn give_up(&mut self, more: usize) {
        self.dropped += (self.out.len() + more) as u64;
        self.out.clear();
        self.local = 0;
    }

    /// Frames that may still be queued.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        Burst::CAPACITY - self.out.len()
    }

    /// At a shared uplink: what the pair's node is now.
    #[inline]
    pub(crate) fn set_standing(&self, standing: impl FnOnce() -> Standing) {
        self.tx.set_standing(standing);
    }

    /// Counts what a shared port has dropped of the pair's.
    pub(crate) fn count_shared(&mut self) {
        let (dropped, strays) = self.tx.take_dropped();
        self.dropped += dropped;
        self.strays += strays;
    }

    /// Queues a frame that may leave. There must be [`PortQueue::room`]. At a shared uplink, pairs of this host that the
    /// frame is for get it now.
    #[inline]
    pub(crate) fn push(&mut self, frame: Mbuf) {
        if !self.tx.cross(&frame) && !self.out.is_full() {
            self.local |= 1 << self.out.len();
        }
        if self.out.push(frame).is_err() {
            self.dropped += 1;
        }
    }
}
