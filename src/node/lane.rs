//! One port of a pair as the poll core uses it: a receive queue, a transmit queue, and the burst
//! that waits for the transmit queue.
//!
//! Frames that the port cannot send as they are go through an [`Egress`] on their way, at the link
//! through [`Sealing`]; they count as sent once it has taken them, in order with all others.

use super::egress::Egress;
use super::sealing::Sealing;
use super::source::Source;
use crate::dpdk::{Abilities, Burst, Mbuf, Mempool, RxPoller, RxQueue, TxPoller, TxQueue, tsc};
use crate::link::secure::{Begun, Counts as Void, Guard, Notice};

/// A port's queues before a poll core has taken them.
pub struct Queues {
    /// To take frames from.
    pub rx: RxQueue,
    /// To give frames to.
    pub tx: TxQueue,
    /// What the port does to frames that ask for it.
    pub abilities: Abilities,
    /// Bytes of the longest frame that it sends, without Ethernet header and tags; `None` for any.
    pub mtu: Option<usize>,
    /// Mbufs for cutting frames, where some may have to be cut.
    pub cutting: Option<Mempool>,
    /// Of a link: which frames count, and mbufs for its own.
    pub link: Option<(Guard, Mempool)>,
    /// Where its frames come from, where one that finds no mbufs would be lost.
    pub source: Option<Mempool>,
}

/// What makes frames fit for the port.
enum Fit {
    /// They go as they are.
    AsIs,
    /// Frames of guests and the network.
    Port(Egress),
    /// Frames of the link.
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
pub struct Lane {
    rx: RxPoller,
    tx: TxPoller,
    /// Frames to send, in order.
    pub out: Burst,
    /// Frames fit for the port that it has not taken yet; they come before `out`.
    wire: Burst,
    fit: Fit,
    /// Makes received frames fit for the port that they go to.
    ingress: Option<Egress>,
    /// Received frames that are not fit yet.
    raw: Burst,
    cutting: Option<Mempool>,
    source: Option<Source>,
    abilities: Abilities,
    /// Frames taken from the port.
    pub received: u64,
    /// Frames that the port took.
    pub sent: u64,
    /// Frames that it did not take and that were given up.
    pub dropped: u64,
}

impl Lane {
    /// Takes the queues for this core.
    pub fn new(queues: Queues) -> Self {
        let Queues {
            rx,
            tx,
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
        Self {
            rx: rx.enable(),
            tx: tx.enable(),
            out: Burst::new(),
            wire: Burst::new(),
            fit,
            ingress: None,
            raw: Burst::new(),
            cutting,
            source: source.map(Source::new),
            abilities,
            received: 0,
            sent: 0,
            dropped: 0,
        }
    }

    /// What the port does to frames that ask for it.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Cuts and marks what is received, so that a port of these abilities can take it.
    pub fn feeds(&mut self, abilities: Abilities) {
        self.ingress = self
            .cutting
            .clone()
            .map(|pool| Egress::new(abilities, None, pool));
    }

    /// Takes frames from the port into an empty burst.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        self.receive_most(burst, Burst::CAPACITY)
    }

    /// The same, and at most `most`, where frames need not be cut or joined.
    #[inline]
    pub fn receive_most(&mut self, burst: &mut Burst, most: usize) -> usize {
        if let Fit::Link(sealing) = &mut self.fit {
            let n = self.rx.rx(&mut self.raw);
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
        burst.len()
    }

    /// Sends what a burst holds; the rest stays in it. The frames are fit for the port.
    #[inline]
    pub fn transmit(&mut self, burst: &mut Burst) -> usize {
        if burst.is_empty() {
            return 0;
        }
        let n = self.tx.tx(burst);
        self.sent += n as u64;
        n
    }

    /// Sends what waits; returns how many frames left.
    #[inline]
    pub fn flush(&mut self) -> usize {
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
            // Before there is a session nothing is said but that this node is there.
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

    /// Of a link: what did not count.
    pub fn void(&self) -> Void {
        match &self.fit {
            Fit::AsIs | Fit::Port(_) => Void::default(),
            Fit::Link(sealing) => *sealing.guard.counts(),
        }
    }

    /// Of a link: what an operator should hear of its session and of strangers.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.guard()?.next_notice(tsc::now())
    }

    /// Of a link: the session that its guard has begun since the last call.
    #[inline]
    pub fn take_session(&mut self) -> Option<Begun> {
        match &mut self.fit {
            Fit::AsIs | Fit::Port(_) => None,
            Fit::Link(sealing) => sealing.take_session(),
        }
    }

    /// Of a link: see [`Guard::take_foreigner`].
    pub fn take_foreigner(&mut self) -> bool {
        self.guard().is_some_and(Guard::take_foreigner)
    }

    /// Of a link: tells the peer that this node ends, so that whoever is started in its place need not wait.
    pub fn part(&mut self) {
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
    pub fn is_idle(&self) -> bool {
        self.out.is_empty() && self.wire.is_empty() && !self.fit.is_cutting()
    }

    /// Drops what waits and counts it, with `more` frames that would have come behind.
    pub fn give_up(&mut self, more: usize) {
        self.dropped += (self.out.len() + more) as u64;
        self.out.clear();
    }

    /// Frames that still fit behind those that wait.
    #[inline]
    pub fn room(&self) -> usize {
        Burst::CAPACITY - self.out.len()
    }

    /// Puts a frame behind those that wait. The caller has seen [`Lane::room`].
    #[inline]
    pub fn push(&mut self, frame: Mbuf) {
        if self.out.push(frame).is_err() {
            self.dropped += 1;
        }
    }
}
