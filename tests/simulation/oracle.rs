//! Judges every frame that leaves by what the two VMs really said, knowing which state each VM ran.
//!
//! The PVM's output between its stops for two checkpoints is a period; what the SVM says after it
//! has loaded the state that began the period is that period's witness.

use std::collections::{BTreeMap, HashMap, VecDeque};

use dpdk_colo::frame::Ticks;
use dpdk_colo::packet::serial;

use crate::frame::Origin;
use crate::frames::{self, Content, Peer, Segment, Way};
use crate::guest::Guest;
use crate::outcome::Spoken;

/// What one VM said on one connection, or what left of it.
#[derive(Default)]
struct Said {
    bytes: HashMap<u32, u8>,
    syn: bool,
    fin: Option<u32>,
    ack: Option<u32>,
}

impl Said {
    fn note(&mut self, segment: &Segment, iss: u32) {
        let from = segment.seq.wrapping_sub(iss);
        self.syn |= segment.syn;
        for (i, byte) in segment.payload.iter().enumerate() {
            self.bytes.insert(from + i as u32, *byte);
        }
        if segment.fin {
            self.fin = Some(from + segment.payload.len() as u32);
        }
        if let Some(ack) = segment.ack {
            self.ack = Some(self.ack.map_or(ack, |known| serial::max(known, ack)));
        }
    }
}

/// A P that the node has taken.
struct Taken {
    peer: Option<Peer>,
    content: Content,
    bytes: Vec<u8>,
    iss: u32,
    period: u64,
    /// Sent before the VM was protected again.
    alone: bool,
    at: Ticks,
}

impl Taken {
    /// Cuts a segment to the part that has left in a frame of `len` bytes; what stays is the rest.
    fn divide(&mut self, len: usize) -> Option<Self> {
        let Content::Tcp(segment) = &mut self.content else {
            return None;
        };
        let stays = self.bytes.len().checked_sub(len).filter(|n| *n > 0)?;
        let part = segment.payload.len().checked_sub(stays)?;
        let mut rest = segment.clone();
        rest.payload.drain(..part);
        rest.seq = rest.seq.wrapping_add(part as u32);
        segment.payload.truncate(part);
        segment.fin = false;
        let headers = self.bytes.len() - part - stays;
        let mut bytes = self.bytes.clone();
        bytes.drain(headers..headers + part);
        self.bytes.truncate(len);
        Some(Self {
            content: Content::Tcp(rest),
            bytes,
            ..*self
        })
    }
}

#[derive(Default)]
pub struct Oracle {
    /// Stops of the PVM for a checkpoint, and states that the SVM loaded.
    pub stops: u64,
    pub loads: u64,
    /// COLO is over and the PVM goes on.
    pub alone: bool,
    /// The node translates connections that it knew as the secondary.
    pub translates: bool,
    /// The next stop begins COLO again.
    begins: bool,
    next: u64,
    held: BTreeMap<u64, Taken>,
    order: HashMap<(bool, Peer), VecDeque<u64>>,
    witness: HashMap<(u64, Peer), Said>,
    left: HashMap<Peer, Said>,
    datagrams: HashMap<(u64, Vec<u8>), i64>,
    /// Frames compared, equal or not; lineage of each S by its tag.
    lineages: Vec<u64>,
    /// First input of each period, and how many in all.
    first_input: Vec<u64>,
    inputs: u64,
    next_mirrored: u64,
    mirrored_in: u64,
    /// When the SVM missed input, in which period, and whether it got some again instead.
    pub missed: VecDeque<(Ticks, u64, bool)>,
    pub released_equal: u64,
    /// P that left before older ones of their connection.
    pub overtook: u64,
    /// Input that the PVM's ring has taken in this round and that was not mirrored yet.
    unmirrored: Vec<(u64, u64)>,
    /// At a takeover: lineage of each S by its tag, and states that the SVM had loaded.
    before: Option<(Vec<u64>, u64)>,
    pub spoken: Spoken,
    /// Highest TSval that has left on each connection of one node's.
    stamps: HashMap<Peer, u32>,
}

impl Oracle {
    /// The PVM stops for a checkpoint.
    pub fn stop(&mut self) {
        if std::mem::take(&mut self.begins) {
            self.loads = self.stops;
            self.alone = false;
            self.held.values_mut().for_each(|p| p.alone = true);
        }
        self.stops += 1;
        self.first_input
            .resize(self.stops as usize + 1, self.inputs);
    }

    /// COLO begins again, with another SVM.
    pub fn begin_again(&mut self) {
        self.begins = true;
        self.missed.clear();
    }

    /// The SVM has loaded the PVM's state.
    pub fn load(&mut self) {
        self.loads += 1;
        assert_eq!(self.loads, self.stops);
        let (now, period) = (self.loads, self.stops);
        self.witness.retain(|(lineage, _), _| lineage + 1 >= now);
        self.datagrams
            .retain(|(lineage, _), _| lineage + 1 >= period);
    }

    /// The node takes a P from the ring.
    pub fn taken(&mut self, bytes: &[u8], guest: &Guest, now: Ticks) -> u64 {
        let number = self.next;
        self.next += 1;
        let (peer, content) = frames::read(bytes, Way::Output);
        let iss = peer
            .and_then(|peer| guest.connections.get(&peer))
            .map_or(0, |connection| connection.tcp.iss);
        if let Some(peer) = peer {
            let udp = matches!(content, Content::Udp(_));
            self.order.entry((udp, peer)).or_default().push_back(number);
        }
        let taken = Taken {
            peer,
            content,
            bytes: bytes.to_vec(),
            iss,
            period: self.stops,
            alone: false,
            at: now,
        };
        self.held.insert(number, taken);
        number
    }

    /// The node takes an S from the ring.
    pub fn said(&mut self, bytes: &[u8], guest: &Guest) -> u64 {
        let lineage = self.loads;
        match frames::read(bytes, Way::Output) {
            (Some(peer), Content::Tcp(segment)) => {
                let iss = guest.connections[&peer].tcp.iss;
                self.witness
                    .entry((lineage, peer))
                    .or_default()
                    .note(&segment, iss);
            }
            (_, Content::Udp(_)) => {
                *self.datagrams.entry((lineage, bytes.to_vec())).or_default() += 1;
            }
            _ => {}
        }
        self.lineages.push(lineage);
        self.lineages.len() as u64 - 1
    }

    /// The node has received these as S, each after this number of stops of the PVM, and took all but `stale` of them
    /// as ones of the present epoch. One that took over may still get input that the old primary had mirrored to it.
    pub fn compared(&mut self, heard: &[(Origin, u64)], stale: u64) {
        let other = |(origin, stops): &&(Origin, u64)| match origin {
            Origin::S(tag) => self.lineages[*tag as usize] != *stops,
            Origin::Input(_) if self.translates => true,
            other => panic!("{other:?} is taken for an S"),
        };
        let others = heard.iter().filter(other).count() as u64;
        assert!(
            others <= stale,
            "of {heard:?} {others} are of another state, {stale} were dropped"
        );
    }

    /// The node that has taken over sends an S once more: one of the state that its VM runs.
    pub fn repeated(&mut self, tag: u64) {
        let (lineages, loads) = self.before.as_ref().expect("nobody has taken over");
        assert_eq!(
            lineages[tag as usize], *loads,
            "an S of another state leaves at the takeover"
        );
        self.spoken.repeated += 1;
    }

    /// The node sends a frame of its own to the network.
    pub fn spoke(&mut self, bytes: &[u8]) {
        match frames::reminds(bytes) {
            Some(_) => self.spoken.reminders += 1,
            None => self.spoken.announcements += 1,
        }
    }

    /// The judge of the node that takes over.
    pub fn after_takeover(&self) -> Self {
        Self {
            translates: true,
            before: Some((self.lineages.clone(), self.loads)),
            ..Self::default()
        }
    }

    /// A P leaves.
    pub fn released(&mut self, number: u64, bytes: &[u8], now: Ticks) {
        let mut p = self.held.remove(&number).expect("R5: a frame left twice");
        let rest = p.divide(bytes.len());
        let is_whole = rest.is_none();
        if let Some(rest) = rest {
            self.held.insert(number, rest);
        }
        assert_eq!(p.bytes.len(), bytes.len(), "what left is of another length");
        let committed = p.period == 0 || p.alone || self.alone || self.loads > p.period;
        if let Some(peer) = p.peer {
            let udp = matches!(p.content, Content::Udp(_));
            let order = self.order.entry((udp, peer)).or_default();
            let at = order.iter().position(|waits| *waits == number);
            let at = at.expect("R5: a frame that does not wait has left");
            if is_whole {
                order.remove(at);
            }
            let older: Vec<u64> = order.iter().take(at).copied().collect();
            if at > 0 {
                self.judge_overtaking(&p, peer, &older);
                self.overtook += 1;
            }
            if !self.translates {
                self.judge_changes(&p, peer, bytes, &older);
            }
        } else if !self.translates {
            assert_eq!(p.bytes, bytes, "what left is not what the PVM sent");
        }
        if !committed {
            self.released_equal += 1;
            self.judge(&p, now);
        }
        if let (Some(peer), Content::Tcp(segment)) = (p.peer, &p.content) {
            self.left.entry(peer).or_default().note(segment, p.iss);
        }
    }

    /// The first of a segment's sequence numbers behind the SYN that has not left, from the ISN on.
    fn unleft(&self, peer: Peer, p: &Taken) -> Option<u32> {
        let Content::Tcp(segment) = &p.content else {
            return None;
        };
        let nothing = Said::default();
        let left = self.left.get(&peer).unwrap_or(&nothing);
        let from = segment.seq.wrapping_sub(p.iss);
        let end = from + segment.payload.len() as u32;
        if segment.syn && !left.syn {
            return Some(from);
        }
        (from..end)
            .find(|at| !left.bytes.contains_key(at))
            .or((segment.fin && left.fin != Some(end)).then_some(end))
    }

    /// R2: only what has left before, and a bare acknowledgment, leaves before older output.
    fn judge_overtaking(&self, p: &Taken, peer: Peer, older: &[u64]) {
        let Content::Tcp(segment) = &p.content else {
            panic!("R2: a datagram of {peer:?} overtakes {older:?}");
        };
        assert!(!segment.syn, "R2: a SYN of {peer:?} overtakes");
        assert_eq!(
            self.unleft(peer, p),
            None,
            "R2: a new byte of {peer:?} overtakes {older:?}"
        );
    }

    /// What left is what the PVM sent, but for the number of a bare acknowledgment that overtakes and
    /// for a time stamp that would go back.
    fn judge_changes(&mut self, p: &Taken, peer: Peer, bytes: &[u8], older: &[u64]) {
        let (Content::Tcp(sent), (_, Content::Tcp(left))) =
            (&p.content, frames::read(bytes, Way::Output))
        else {
            assert_eq!(p.bytes, bytes, "what left is not what the PVM sent");
            return;
        };
        let mut expected = sent.clone();
        let bare = sent.payload.is_empty() && !sent.syn && !sent.fin;
        let waits = older.iter().filter_map(|number| self.held.get(number));
        if let Some(unleft) = waits.filter_map(|p| self.unleft(peer, p)).min()
            && bare
        {
            expected.seq = serial::min(sent.seq, p.iss.wrapping_add(unleft));
        }
        // A comparator that began in mid-stream takes what it has not seen leave for new.
        if bare && !older.is_empty() && serial::at_or_before(left.seq, expected.seq) {
            expected.seq = left.seq;
        }
        if let Some((value, _)) = &mut expected.timestamps {
            let highest = self
                .stamps
                .get(&peer)
                .map_or(*value, |highest| serial::max(*highest, *value));
            *value = highest;
            self.stamps.insert(peer, highest);
        }
        assert_eq!(
            left, expected,
            "{peer:?}: what left is not what the PVM sent"
        );
    }

    fn judge(&mut self, p: &Taken, now: Ticks) {
        let Some(peer) = p.peer else {
            return;
        };
        let why = format!("{peer:?} of period {} at {now}", p.period);
        match &p.content {
            Content::Tcp(segment) => {
                let nothing = Said::default();
                let svm = self.witness.get(&(p.period, peer)).unwrap_or(&nothing);
                let left = self.left.get(&peer).unwrap_or(&nothing);
                let from = segment.seq.wrapping_sub(p.iss);
                for (i, byte) in segment.payload.iter().enumerate() {
                    let at = from + i as u32;
                    let known = [svm, left]
                        .iter()
                        .any(|said| said.bytes.get(&at) == Some(byte));
                    assert!(known, "R1: byte {at} of {why} has no equal");
                }
                assert!(
                    !segment.syn || svm.syn || left.syn,
                    "R1: the SYN of {why} has no equal"
                );
                let fin = from + segment.payload.len() as u32;
                let fin_known = [svm, left].iter().any(|said| said.fin == Some(fin));
                assert!(
                    !segment.fin || fin_known,
                    "R1: the FIN of {why} has no equal"
                );
                if let Some(ack) = segment.ack {
                    let allowed = [svm, left].iter().any(|said| {
                        said.ack
                            .is_some_and(|known| serial::at_or_before(ack, known))
                    });
                    assert!(allowed, "R4: {why} acknowledges more than the SVM has");
                }
            }
            Content::Udp(_) => {
                let said = self
                    .datagrams
                    .entry((p.period, p.bytes.clone()))
                    .or_default();
                *said -= 1;
                assert!(*said >= 0, "R1: a datagram of {why} has no equal");
            }
            Content::Other => {}
        }
    }

    /// The primary node is gone with all that it held.
    pub fn forget_held(&mut self) {
        self.held.clear();
        self.order.clear();
    }

    /// When the P that waits for longest was taken.
    pub fn oldest(&self) -> Option<Ticks> {
        self.held.values().map(|p| p.at).next()
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The PVM's ring takes an input frame.
    pub fn input_taken(&mut self) -> u64 {
        self.unmirrored.push((self.inputs, self.stops));
        self.inputs += 1;
        self.inputs - 1
    }

    /// An input frame that the PVM's ring has taken goes to the SVM.
    pub fn mirrors(&mut self, tag: u64) {
        let at = self.unmirrored.iter().position(|(taken, _)| *taken == tag);
        self.unmirrored
            .remove(at.expect("R7: a frame is mirrored that the ring did not take now"));
    }

    /// The node's round is over: what its ring took and it did not mirror is missed.
    pub fn end_round(&mut self, now: Ticks) {
        for (_, period) in self.unmirrored.drain(..) {
            // The PVM may have stopped since, with the frame in its state.
            if period > 0 && !self.alone {
                self.missed.push_back((now, period, false));
            }
        }
    }

    /// The SVM's ring takes one (rule R7).
    pub fn input_mirrored(&mut self, tag: u64, now: Ticks) {
        if self.mirrored_in != self.loads {
            self.mirrored_in = self.loads;
            self.next_mirrored = self.first_input[self.loads as usize];
        }
        if tag != self.next_mirrored {
            let again = tag < self.next_mirrored;
            self.missed.push_back((now, self.loads, again));
        }
        self.next_mirrored = tag + 1;
    }
}
