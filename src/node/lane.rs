//! One port of a pair as the poll core uses it: a receive queue, a transmit queue, and the burst
//! that waits for the transmit queue.
//!
//! Frames that the port cannot send as they are go through an [`Egress`] on their way, at the link
//! through [`Splitting`]; they count as sent once it has taken them, in order with all others.

use super::egress::{ETHERNET_HEADER, Egress};
use super::fragments::{Joining, Splitting};
use super::source::Source;
use crate::dpdk::{Abilities, Burst, Mbuf, Mempool, RxPoller, RxQueue, TxPoller, TxQueue};

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
    /// Whether its frames are the link's.
    pub is_link: bool,
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
    Link(Splitting),
}

impl Fit {
    #[inline]
    fn is_cutting(&self) -> bool {
        match self {
            Fit::AsIs => false,
            Fit::Port(egress) => egress.is_cutting(),
            Fit::Link(splitting) => splitting.is_splitting(),
        }
    }

    #[inline]
    fn concerns(&self, frame: &Mbuf) -> bool {
        match self {
            Fit::AsIs => false,
            Fit::Port(egress) => egress.concerns(frame),
            Fit::Link(splitting) => splitting.concerns(frame),
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
    /// Makes fragments frames, at the link.
    joining: Option<Joining>,
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
            is_link,
            source,
        } = queues;
        let fit = match (cutting.clone(), mtu) {
            // The link's frames have no tags.
            (Some(pool), Some(mtu)) if is_link => {
                Splitting::new(mtu + ETHERNET_HEADER, pool).map_or(Fit::AsIs, Fit::Link)
            }
            (Some(pool), _) if !is_link => Fit::Port(Egress::new(abilities, mtu, pool)),
            _ => Fit::AsIs,
        };
        Self {
            rx: rx.enable(),
            tx: tx.enable(),
            out: Burst::new(),
            wire: Burst::new(),
            fit,
            ingress: None,
            joining: is_link.then(Joining::default),
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
        if let Some(joining) = &mut self.joining {
            let n = self.rx.rx(&mut self.raw);
            self.received += n as u64;
            for frame in self.raw.drain() {
                if let Some(frame) = joining.accept(frame) {
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
                Fit::Link(splitting) => splitting.fill(out, wire),
            };
            if self.wire.is_empty() {
                break;
            }
            self.tx.tx(&mut self.wire);
            if !self.wire.is_empty() {
                break;
            }
        }
        let refused = match &mut self.fit {
            Fit::Port(egress) => std::mem::take(&mut egress.refused),
            _ => 0,
        };
        self.dropped += refused;
        self.sent += left as u64 - refused;
        left
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
