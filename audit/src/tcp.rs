//! One TCP connection's output: whether each byte, flag and acknowledgment that left was free to.
//!
//! What the VM sent waits in its order; what the other VM sent in the epoch is noted by position.
//! A segment that leaves must be the next one that waits (rule R5) or one that may overtake it
//! (R2, [`overtaking`]), and each of its bytes must be known from the SVM, or have been free to leave
//! before (R1); it acknowledges no more than the SVM has (R4). What a commit covers is free, and so is what comes of it again: the SVM runs with a
//! state in which it was sent.
//!
//! Connections that reuse the same ports are distinguished by their SYNs: each new initial sequence
//! number of a VM begins a life, and the two VMs' lives pair up by their count since the last commit.

mod overtaking;
mod parts;

use std::collections::{HashMap, HashSet, VecDeque};

use dpdk_colo::packet::serial::{at_or_before, before};
use dpdk_colo::packet::{Packet, TcpFlags};

use crate::bytes::ByteMap;
use crate::extras::{self, Opening};
use crate::node::{Fault, Heard, Releasing, Standing, Why};
use crate::ranges::Ranges;
use crate::record::Numbers;
use crate::report::Rule;
use crate::same::first_difference;

/// One connection, whichever node released it: what was free to leave, by the PVM's numbers.
#[derive(Default)]
pub struct Life {
    /// Initial sequence number, if the SYN was seen.
    pub isn: Option<u32>,
    /// Bytes that left or that a commit covers.
    pub bytes: ByteMap,
    /// Sequence numbers that left, a FIN's included: what a commit covers may wait still.
    left: Ranges,
    ack: Option<u32>,
    openings: Vec<Opening>,
    /// Urgent positions that were announced.
    urgent: Vec<u32>,
    /// IPv4 options or extension headers, and TCP options, that segments had.
    options: HashSet<Vec<u8>>,
    fin: Option<u32>,
    resets: Vec<(u32, Option<u32>)>,
    /// The number behind all that left: what a keepalive stands one before.
    next: Option<u32>,
    /// The acknowledgment that one of the VMs raised by exactly one: to the client's FIN.
    step: Option<u32>,
}

impl Life {
    /// Notes a segment that is free to leave, or part of its payload. `bytes` are the whole frame's.
    fn free(&mut self, packet: &Packet, bytes: &[u8], from: u32, payload: &[u8]) {
        let tcp = packet.tcp;
        if tcp.flags.contains(TcpFlags::SYN) {
            self.openings.push(extras::opening(packet, bytes));
        }
        self.urgent.extend(extras::urgent(packet, bytes));
        self.options.extend(options(packet, bytes));
        self.bytes
            .insert(payload_at(packet).wrapping_add(from), payload);
        if let Some(ack) = acknowledged(packet) {
            self.note_step(self.ack, ack);
            self.ack = Some(later(self.ack, ack));
        }
        let part = from + payload.len() as u32;
        let end = payload_at(packet).wrapping_add(part);
        // A FIN leaves with the last part.
        let fin = tcp.flags.contains(TcpFlags::FIN) && part == packet.payload_len;
        if fin {
            self.fin = Some(end);
        }
        if tcp.flags.contains(TcpFlags::RST) {
            self.resets.push((tcp.seq, acknowledged(packet)));
        } else if packet.sequence_len() > 0 {
            // A bare acknowledgment bears the number of bytes that may not have left.
            let end = end.wrapping_add(u32::from(fin));
            self.next = Some(later(self.next, end));
        }
    }

    fn note_step(&mut self, before: Option<u32>, ack: u32) {
        if before == Some(ack.wrapping_sub(1)) {
            self.step = Some(ack);
        }
    }

    /// Whether a segment at `at` is a keepalive with a byte (RFC 9293 3.8.4): no data.
    fn is_probe(&self, packet: &Packet, at: u32) -> bool {
        let meant = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        packet.payload_len == 1
            && !packet.tcp.flags.intersects(meant)
            && self.next == Some(at.wrapping_add(1))
    }

    /// Whether a RST says only that its VM has forgotten a connection that both have closed: both FINs
    /// were sent and acknowledged, as far as the output tells. `svm` is what the SVM acknowledges.
    fn is_late_reset(&self, packet: &Packet, svm: Option<u32>) -> bool {
        let tcp = packet.tcp;
        let behind = |fin: u32| at_or_before(tcp.seq, fin.wrapping_add(1));
        tcp.flags.contains(TcpFlags::RST)
            && !tcp
                .flags
                .intersects(TcpFlags::ACK | TcpFlags::SYN | TcpFlags::FIN)
            && packet.payload_len == 0
            && self.step.is_some()
            && self.step == self.ack
            && svm.or(self.ack) == self.ack
            && self.fin.is_some_and(behind)
    }

    /// A position in words.
    fn position(&self, at: u32) -> String {
        match self.isn {
            Some(isn) => format!(
                "byte {} of the stream",
                at.wrapping_sub(isn).wrapping_sub(1)
            ),
            None => format!("sequence number {at}"),
        }
    }
}

/// What the SVM said in one life and epoch. Positions are relative to its ISN where the numbers are
/// its own.
#[derive(Default)]
struct Said {
    bytes: ByteMap,
    ack: Option<u32>,
    openings: Vec<Opening>,
    urgent: Vec<u32>,
    options: HashSet<Vec<u8>>,
    /// Segments without SYN, RST and ACK, by position, length and control bits, and how many.
    alone: HashMap<(u32, u32, u8), u64>,
    fin: Option<u32>,
    resets: Vec<u32>,
    /// Its last keepalive with a byte: position and byte.
    probe: Option<(u32, u8)>,
    /// First position, not yet left then, for which it sent two values, and the record.
    contradiction: Option<(u32, u64)>,
}

/// What the SVM said in an epoch.
#[derive(Default)]
struct Witness {
    epoch: u32,
    life: usize,
    isn: Option<u32>,
    arriving: Sides,
    said: HashMap<usize, Said>,
}

/// What a VM has sent since its SYN that tells whether a SYN with the same number is the same one.
#[derive(Clone, Copy, Default)]
struct Sides {
    ack: Option<u32>,
    ended: bool,
}

impl Sides {
    fn note(&mut self, packet: &Packet) {
        let flags = packet.tcp.flags;
        if flags.contains(TcpFlags::SYN) {
            self.ack = acknowledged(packet);
        }
        self.ended |= flags.intersects(TcpFlags::FIN | TcpFlags::RST);
    }

    /// Whether a SYN with the same number opens another connection.
    fn is_over(&self, syn: &Packet) -> bool {
        let ack = acknowledged(syn);
        self.ended || self.ack.is_some() && ack.is_some() && ack != self.ack
    }
}

/// A segment that the VM sent and that has not left whole.
struct Taken {
    standing: Standing,
    life: usize,
    packet: Packet,
    bytes: Box<[u8]>,
    /// Bytes of payload that have left (the node may let it leave in parts, and the uplink's port cuts).
    left: u32,
    freed: bool,
}

impl Taken {
    fn payload(&self) -> &[u8] {
        payload(&self.packet, &self.bytes)
    }
}

/// In which order a segment left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The next of its flow.
    Next,
    /// Before older ones, which wait still.
    Overtakes,
}

/// One connection's output at one node.
pub struct Flow {
    numbers: Numbers,
    waiting: VecDeque<Taken>,
    /// The last segments that left in parts, or whole before older ones, whose parts may look the same.
    gone: VecDeque<Taken>,
    life: usize,
    arriving: Sides,
    witness: Witness,
    /// Fences that the last commit seen here covers.
    synced: u64,
    /// Sequence numbers of the client's RSTs.
    client_resets: Vec<u32>,
    /// Since which turn a byte that waits differs from the SVM's.
    differs: Option<u64>,
    /// Highest TSval that has left, and of which life.
    stamp: Option<(usize, u32)>,
    /// Sequence numbers that left through this node, and of which life: it knows of no others.
    own: (usize, Ranges),
}

impl Flow {
    /// A connection whose last known life is the last of `lives`.
    pub fn new(numbers: Numbers, lives: &mut Vec<Life>, keep: bool) -> Self {
        if lives.is_empty() {
            lives.push(life(None, keep));
        }
        let last = lives.len() - 1;
        Self {
            numbers,
            waiting: VecDeque::new(),
            gone: VecDeque::new(),
            life: last,
            arriving: Sides::default(),
            witness: Witness {
                life: last,
                isn: lives[last].isn,
                ..Witness::default()
            },
            synced: 0,
            client_resets: Vec::new(),
            differs: None,
            stamp: None,
            own: (last, Ranges::default()),
        }
    }

    /// The client has reset the connection, and both VMs got it.
    pub fn client_reset(&mut self, seq: u32) {
        self.client_resets.push(seq);
    }

    /// Whether a segment need not leave: its client had reset the connection, with the very number that the
    /// segment acknowledges.
    fn may_be_dropped(&self, taken: &Taken) -> bool {
        acknowledged(&taken.packet).is_some_and(|ack| self.client_resets.contains(&ack))
    }

    /// Takes in how far commits reach: bytes that were taken before this many fences are free.
    fn sync(&mut self, committed: u64, lives: &mut [Life]) {
        if self.synced >= committed {
            return;
        }
        self.synced = committed;
        for taken in &mut self.waiting {
            if taken.standing.fences < committed && !taken.freed {
                taken.freed = true;
                let payload = payload(&taken.packet, &taken.bytes);
                lives[taken.life].free(&taken.packet, &taken.bytes, 0, payload);
            }
        }
        self.differs = None;
        // The SVM has the PVM's state, numbers included.
        self.witness = Witness {
            life: self.life,
            isn: lives[self.life].isn,
            arriving: self.arriving,
            ..Witness::default()
        };
    }

    /// The VM has sent a segment.
    pub fn taken(
        &mut self,
        standing: Standing,
        packet: Packet,
        bytes: Box<[u8]>,
        committed: u64,
        lives: &mut Vec<Life>,
    ) {
        self.sync(committed, lives);
        let seq = packet.tcp.seq;
        if packet.tcp.flags.contains(TcpFlags::SYN)
            && (lives[self.life].isn != Some(seq) || self.arriving.is_over(&packet))
        {
            self.arriving = Sides::default();
            let keep = lives[self.life].bytes.everything;
            lives.push(life(Some(seq), keep));
            self.life = lives.len() - 1;
        }
        self.arriving.note(&packet);
        self.waiting.push_back(Taken {
            standing,
            life: self.life,
            packet,
            bytes,
            left: 0,
            freed: false,
        });
        if let Some(taken) = self.waiting.back()
            && self.differs.is_none()
            && self.differs_from_secondary(taken, lives)
            && self.reaches_difference(lives)
        {
            self.differs = Some(standing.turn);
        }
    }

    /// Whether the SVM has sent a byte of what waits with another value.
    fn differs_from_secondary(&self, taken: &Taken, lives: &[Life]) -> bool {
        let Some(said) = self.said(taken) else {
            return false;
        };
        let base = base_of_pvm(self.numbers, Some(&lives[taken.life]));
        let own = taken.payload();
        let at = payload_at(&taken.packet).wrapping_sub(base);
        let svm = said.bytes.read(at, own.len());
        (0..own.len()).any(|i| svm[i].is_some_and(|svm| svm != own[i]))
    }

    /// Whether the node's comparison, which goes in order, has come to a byte that differs: it stops where the
    /// SVM has not sent one.
    fn reaches_difference(&self, lives: &[Life]) -> bool {
        for taken in &self.waiting {
            let Some(said) = self.said(taken) else {
                return false;
            };
            let (at, own) = taken.rest();
            let base = base_of_pvm(self.numbers, Some(&lives[taken.life]));
            let svm = said.bytes.read(at.wrapping_sub(base), own.len());
            match (0..own.len()).find(|i| svm[*i] != Some(own[*i])) {
                Some(i) => return svm[i].is_some(),
                None => continue,
            }
        }
        false
    }

    /// The other VM has sent a segment in `epoch`.
    pub fn witnessed(
        &mut self,
        heard: Heard,
        packet: &Packet,
        bytes: &[u8],
        committed: u64,
        lives: &mut [Life],
    ) {
        let Heard {
            record,
            epoch,
            turn,
        } = heard;
        self.sync(committed, lives);
        if self.witness.epoch != epoch {
            self.witness.epoch = epoch;
            self.witness.said.clear();
        }
        let tcp = packet.tcp;
        let syn = tcp.flags.contains(TcpFlags::SYN);
        if syn && (self.witness.isn != Some(tcp.seq) || self.witness.arriving.is_over(packet)) {
            self.witness.arriving = Sides::default();
            self.witness.isn = Some(tcp.seq);
            self.witness.life += 1;
        }
        self.witness.arriving.note(packet);
        let number = self.witness.life;
        let said = self.witness.said.entry(number).or_default();
        if syn {
            said.openings.push(extras::opening(packet, bytes));
        }
        if let Some(ack) = acknowledged(packet) {
            if let Some(life) = lives.get_mut(number) {
                life.note_step(said.ack.or(life.ack), ack);
            }
            said.ack = Some(later(said.ack, ack));
        }
        let pvm = lives.get(number);
        let base = match self.numbers {
            Numbers::OwnIsn => self.witness.isn.unwrap_or(0),
            // A translated stream's SYN alone has a number of its own.
            Numbers::Translated if syn => match pvm.and_then(|life| life.isn) {
                Some(isn) => tcp.seq.wrapping_sub(isn),
                None => return,
            },
            Numbers::Translated => 0,
        };
        let at = payload_at(packet).wrapping_sub(base);
        said.options.extend(options(packet, bytes));
        let urgent = extras::urgent(packet, bytes);
        said.urgent.extend(urgent.map(|at| at.wrapping_sub(base)));
        if stands_alone(packet) {
            *said.alone.entry(alone(packet, base)).or_default() += 1;
        }
        if tcp.flags.contains(TcpFlags::FIN) {
            said.fin = Some(at.wrapping_add(packet.payload_len));
        }
        if tcp.flags.contains(TcpFlags::RST) {
            said.resets.push(tcp.seq.wrapping_sub(base));
        }
        let own = at.wrapping_add(base_of_pvm(self.numbers, pvm));
        if pvm.is_some_and(|life| life.is_probe(packet, own))
            && let [byte] = payload(packet, bytes)
        {
            said.probe = Some((at, *byte));
            return;
        }
        if let Some(conflict) = said.bytes.insert(at, payload(packet, bytes)) {
            let at = at.wrapping_add(conflict.offset as u32);
            let back = base_of_pvm(self.numbers, pvm);
            let gone = pvm.is_some_and(|life| life.bytes.read(at.wrapping_add(back), 1) != [None]);
            if !gone
                && said
                    .contradiction
                    .is_none_or(|(known, _)| before(at, known))
            {
                said.contradiction = Some((at, record));
            }
        }
        if self.differs.is_none() {
            let end = at.wrapping_add(packet.payload_len);
            let back = base_of_pvm(self.numbers, lives.get(number));
            let meets = |taken: &&Taken| {
                let own = payload_at(&taken.packet).wrapping_sub(back);
                taken.life == number
                    && before(own, end)
                    && before(at, own.wrapping_add(taken.packet.payload_len))
            };
            let mut met = self.waiting.iter().filter(meets);
            let contradicts = self.witness.said.get(&number);
            if contradicts.is_some_and(|said| said.contradiction.is_some())
                || met.any(|taken| self.differs_from_secondary(taken, lives))
                    && self.reaches_difference(lives)
            {
                self.differs = Some(turn);
            }
        }
    }

    /// A segment has left. `vanished` frames may be missing before it.
    pub fn left(
        &mut self,
        packet: &Packet,
        out: &[u8],
        cx: &mut Releasing,
        lives: &mut [Life],
    ) -> Result<Why, Fault> {
        self.sync(cx.committed, lives);
        let whole = |taken: &Taken| {
            taken.left == 0 && first_difference(&taken.bytes, &taken.packet, out).is_none()
        };
        let mut refused = None;
        // Segments that say the same may differ in what a node may change, and what left whole may look
        // like a piece of a longer one, or like the rest of an older one, which keeps others from leaving.
        let (mut candidates, mut pieces) = (Vec::new(), Vec::new());
        for (index, taken) in self.waiting.iter().enumerate() {
            if whole(taken) || taken.ends_with(packet, out) {
                candidates.push(index);
            } else if taken.begins_with(packet, out) {
                pieces.push(index);
            }
        }
        candidates.extend(pieces);
        for index in candidates {
            match self.judge(index, packet, out, cx, lives) {
                Ok((why, order)) => {
                    self.gone(index, (&why, order), packet, out, cx, lives);
                    return Ok(why);
                }
                Err(fault) => {
                    refused.get_or_insert(fault);
                }
            }
        }
        if let Some((index, why, order)) = self.exchange(packet, out, cx, lives) {
            self.gone(index, (&why, order), packet, out, cx, lives);
            return Ok(why);
        }
        Err(refused.unwrap_or_else(|| self.stranger(packet, out, lives)))
    }

    /// Whether what has left may be one that waits.
    fn judge(
        &self,
        index: usize,
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
        lives: &[Life],
    ) -> Result<(Why, Order), Fault> {
        let taken = &self.waiting[index];
        let piece = payload(packet, out);
        let at = payload_at(packet);
        let life = &lives[taken.life];
        let order = if index == 0 {
            Order::Next
        } else {
            match self.may_overtake(index, packet, piece, cx, lives) {
                Ok(()) => Order::Overtakes,
                Err(_) if cx.vanished >= self.missing(index) => Order::Next,
                Err(fault) => return Err(fault),
            }
        };
        self.number(index, &order, packet, lives)?;
        self.time(taken, packet, out, cx)?;
        let why = taken.standing.why(cx);
        let probe = why.is_some() && life.is_probe(packet, at)
            || self.is_equal_probe(taken, packet, piece, life);
        for (i, known) in life.bytes.read(at, piece.len()).into_iter().enumerate() {
            if let Some(known) = known.filter(|known| *known != piece[i] && !probe) {
                return Err(Fault {
                    rule: Rule::R5,
                    position: Some(life.position(at.wrapping_add(i as u32))),
                    records: vec![taken.standing.record],
                    what: format!(
                        "a byte left as {known:#04x} before and leaves as {:#04x} now",
                        piece[i]
                    ),
                });
            }
        }
        if let Some(why) = why {
            return Ok((why, order));
        }
        self.compared(taken, packet, piece, lives)?;
        Ok((Why::Compared, order))
    }

    /// How many of the first `count` that wait must have vanished where one behind them is the next.
    fn missing(&self, count: usize) -> u64 {
        let older = self.waiting.iter().take(count);
        older.filter(|taken| !self.may_be_dropped(taken)).count() as u64
    }

    /// Notes that one that waited has left, or a piece of it.
    fn gone(
        &mut self,
        mut index: usize,
        (why, order): (&Why, Order),
        packet: &Packet,
        out: &[u8],
        cx: &mut Releasing,
        lives: &mut [Life],
    ) {
        if order == Order::Next {
            cx.vanished -= self.missing(index);
            self.waiting.drain(..index);
            index = 0;
        }
        let piece = payload(packet, out);
        let taken = &mut self.waiting[index];
        let (life, from) = (taken.life, taken.left);
        if *why == Why::Compared && stands_alone(packet) {
            let key = alone(packet, base_of_pvm(self.numbers, Some(&lives[life])));
            let said = self.witness.said.get_mut(&life);
            if let Some(left) = said.and_then(|said| said.alone.get_mut(&key)) {
                *left -= 1;
            }
        }
        lives[life].free(&taken.packet, &taken.bytes, from, piece);
        taken.left += piece.len() as u32;
        let (at, end) = numbers(packet, piece);
        lives[life].left.insert(at, end);
        if self.own.0 != life {
            self.own = (life, Ranges::default());
        }
        self.own.1.insert(at, end);
        let is_whole = taken.left == taken.packet.payload_len;
        let in_parts = piece.len() < taken.packet.payload_len as usize;
        if is_whole
            && let Some(taken) = self.waiting.remove(index)
            && (in_parts || order == Order::Overtakes && !piece.is_empty())
        {
            self.keep(taken);
        }
        self.note_time(life, packet, out);
    }

    /// Whether it is a keepalive with a byte, and the SVM has sent the same.
    fn is_equal_probe(&self, taken: &Taken, packet: &Packet, piece: &[u8], life: &Life) -> bool {
        let at = payload_at(packet);
        let there = at.wrapping_sub(base_of_pvm(self.numbers, Some(life)));
        let said = self.said(taken).and_then(|said| said.probe);
        life.is_probe(packet, at)
            && said.is_some_and(|(position, byte)| position == there && piece == [byte])
    }

    /// Whether the SVM has sent the same in the same epoch, as far as it was not free before.
    fn compared(
        &self,
        taken: &Taken,
        packet: &Packet,
        piece: &[u8],
        lives: &[Life],
    ) -> Result<(), Fault> {
        let life = &lives[taken.life];
        let nothing = Said::default();
        let said = self.said(taken).unwrap_or(&nothing);
        let base = base_of_pvm(self.numbers, Some(life));
        let at = payload_at(packet);
        let fault = |rule, position: Option<u32>, what: String| Fault {
            rule,
            position: position.map(|at| life.position(at)),
            records: vec![taken.standing.record],
            what,
        };
        let epoch = taken.standing.epoch;
        let svm = said.bytes.read(at.wrapping_sub(base), piece.len());
        let free = life.bytes.read(at, piece.len());
        let probe = self.is_equal_probe(taken, packet, piece, life);
        for (i, byte) in piece.iter().enumerate() {
            if svm[i] == Some(*byte) || free[i] == Some(*byte) || probe {
                continue;
            }
            let here = Some(at.wrapping_add(i as u32));
            let what = match svm[i] {
                Some(svm) => format!(
                    "a byte leaves as {byte:#04x}, which the SVM sent as {svm:#04x} in epoch {epoch}, \
                     and no commit covers it"
                ),
                None => format!(
                    "a byte leaves that the SVM has not sent in epoch {epoch}, and no commit covers it"
                ),
            };
            return Err(fault(Rule::R1, here, what));
        }
        let end = at.wrapping_add(piece.len() as u32);
        if let Some((contradiction, record)) = said.contradiction
            && before(contradiction, end.wrapping_sub(base))
        {
            let mut fault = fault(
                Rule::R2,
                Some(contradiction.wrapping_add(base)),
                "the flow goes on behind a byte that the SVM sent with two values, without a commit"
                    .to_owned(),
            );
            fault.records.push(record);
            return Err(fault);
        }
        let flags = packet.tcp.flags;
        if flags.contains(TcpFlags::SYN) {
            let own = extras::opening(&taken.packet, &taken.bytes);
            if !said.openings.contains(&own) && !life.openings.contains(&own) {
                let what = match said.openings.last() {
                    Some(svm) => format!("a SYN leaves with {own:?}; the SVM's has {svm:?}"),
                    None => format!("a SYN leaves before the SVM's in epoch {epoch}"),
                };
                return Err(fault(Rule::R1, None, what));
            }
        }
        let relative = |at: u32| at.wrapping_sub(base);
        match extras::urgent(&taken.packet, &taken.bytes) {
            Some(own) if !said.urgent.contains(&relative(own)) && !life.urgent.contains(&own) => {
                let what = "urgent data ends where the SVM's does not".to_owned();
                return Err(fault(Rule::R1, Some(own), what));
            }
            None => {
                let within = |last: u32| !before(last, at) && before(last, end);
                let missed = said.urgent.iter().map(|known| known.wrapping_add(base));
                let mut missed = missed.filter(|known| !life.urgent.contains(known));
                if let Some(svm) = missed.find(|known| within(known.wrapping_sub(1))) {
                    let what = "a byte leaves that is urgent at the SVM only".to_owned();
                    return Err(fault(Rule::R1, Some(svm), what));
                }
            }
            Some(_) => {}
        }
        for option in options(&taken.packet, &taken.bytes) {
            if !said.options.contains(&option) && !life.options.contains(&option) {
                let what =
                    format!("it leaves with the option or header {option:02x?}, which no S has");
                return Err(fault(Rule::R1, None, what));
            }
        }
        if stands_alone(packet) && said.alone.get(&alone(packet, base)).is_none_or(|n| *n == 0) {
            let what = "a segment without ACK leaves that the SVM has not sent".to_owned();
            return Err(fault(Rule::R1, Some(at), what));
        }
        let known_fin = said.fin == Some(end.wrapping_sub(base)) || life.fin == Some(end);
        if flags.contains(TcpFlags::FIN) && !known_fin {
            let what = match said.fin {
                Some(_) => "a FIN leaves at a place where the SVM's is not",
                None => "a FIN leaves that the SVM has not sent",
            };
            return Err(fault(Rule::R1, Some(end), what.to_owned()));
        }
        let reset = (packet.tcp.seq, acknowledged(packet));
        let known_reset = said.resets.contains(&packet.tcp.seq.wrapping_sub(base))
            || life.resets.contains(&reset);
        let known_reset = known_reset || life.is_late_reset(packet, said.ack);
        if flags.contains(TcpFlags::RST) && !known_reset {
            let what = "a RST leaves that the SVM has not sent".to_owned();
            return Err(fault(Rule::R1, None, what));
        }
        self.gate(packet, taken, life)
    }

    /// Rule R4.
    fn gate(&self, packet: &Packet, taken: &Taken, life: &Life) -> Result<(), Fault> {
        let Some(ack) = acknowledged(packet) else {
            return Ok(());
        };
        let svm = self.said(taken).and_then(|said| said.ack);
        let allowed = [svm, life.ack].into_iter().flatten();
        if allowed.clone().any(|known| at_or_before(ack, known)) {
            return Ok(());
        }
        let most = allowed.reduce(|a, b| later(Some(a), b));
        Err(Fault {
            rule: Rule::R4,
            position: None,
            records: vec![taken.standing.record],
            what: match most {
                Some(most) => format!(
                    "it acknowledges {ack}, {} beyond {most}, the most that the SVM has acknowledged in epoch {}",
                    ack.wrapping_sub(most),
                    taken.standing.epoch
                ),
                None => format!(
                    "it acknowledges {ack}; the SVM has acknowledged nothing in epoch {}",
                    taken.standing.epoch
                ),
            },
        })
    }

    fn said(&self, taken: &Taken) -> Option<&Said> {
        (self.witness.epoch == taken.standing.epoch)
            .then(|| self.witness.said.get(&taken.life))
            .flatten()
    }

    /// Something left that is nothing of what waits.
    fn stranger(&self, packet: &Packet, out: &[u8], lives: &[Life]) -> Fault {
        let tcp = packet.tcp;
        let alike = |taken: &&Taken| {
            taken.packet.tcp.seq == tcp.seq
                && taken.packet.payload_len == packet.payload_len
                && taken.packet.tcp.flags == tcp.flags
        };
        if let Some(taken) = self.waiting.iter().find(alike) {
            let life = &lives[taken.life];
            let (piece, sent) = (payload(packet, out), taken.payload());
            if let Some(i) = (0..piece.len().min(sent.len())).find(|&i| piece[i] != sent[i]) {
                let at = payload_at(packet).wrapping_add(i as u32);
                let before = life.bytes.read(at, 1)[0].filter(|byte| *byte != piece[i]);
                let svm = self.said(taken).and_then(|said| {
                    said.bytes
                        .read(at.wrapping_sub(base_of_pvm(self.numbers, Some(life))), 1)[0]
                });
                let svm = svm.map_or("nothing there".to_owned(), |svm| format!("{svm:#04x}"));
                return Fault {
                    rule: if before.is_some() { Rule::R5 } else { Rule::R1 },
                    position: Some(life.position(at)),
                    records: vec![taken.standing.record],
                    what: format!(
                        "a byte leaves as {:#04x}; the PVM sent {:#04x}, the SVM {svm}",
                        piece[i], sent[i]
                    ),
                };
            }
            if tcp.ack != taken.packet.tcp.ack
                && let Err(fault) = self.gate(packet, taken, life)
            {
                return fault;
            }
            let at = first_difference(&taken.bytes, &taken.packet, out).unwrap_or_default();
            return Fault {
                rule: Rule::R1,
                position: None,
                records: vec![taken.standing.record],
                what: format!("byte {at} of the frame, a header, is not as the PVM sent it"),
            };
        }
        let piece = payload(packet, out);
        let life = &lives[self.life];
        let known = life.bytes.read(payload_at(packet), piece.len());
        let again = known
            .iter()
            .zip(piece)
            .all(|(known, byte)| *known == Some(*byte))
            && acknowledged(packet)
                .is_none_or(|ack| life.ack.is_some_and(|most| at_or_before(ack, most)));
        let (rule, what) = if again {
            (Rule::R5, "it left before, and the VM has not sent it again")
        } else {
            (Rule::R1, "it leaves, and the VM has not sent it")
        };
        Fault {
            rule,
            position: Some(life.position(payload_at(packet))),
            records: Vec::new(),
            what: what.to_owned(),
        }
    }

    /// Segments that waited were passed over.
    fn skipped(&self, index: usize, lives: &[Life]) -> Fault {
        for taken in self.waiting.iter().take(index) {
            let life = &lives[taken.life];
            let at = payload_at(&taken.packet);
            let Some(said) = self.said(taken) else {
                continue;
            };
            let base = base_of_pvm(self.numbers, Some(life));
            let svm = said
                .bytes
                .read(at.wrapping_sub(base), taken.payload().len());
            let differs = |i: &usize| svm[*i].is_some_and(|svm| svm != taken.payload()[*i]);
            if let Some(i) = (0..svm.len()).find(differs) {
                return Fault {
                    rule: Rule::R2,
                    position: Some(life.position(at.wrapping_add(i as u32))),
                    records: vec![taken.standing.record],
                    what: "the flow goes on behind a byte that differs, without a commit"
                        .to_owned(),
                };
            }
        }
        let first = &self.waiting[0];
        Fault {
            rule: Rule::R5,
            position: Some(lives[first.life].position(payload_at(&first.packet))),
            records: vec![first.standing.record],
            what: format!("{index} segments of the VM before it have not left"),
        }
    }
}

fn life(isn: Option<u32>, keep: bool) -> Life {
    let mut life = Life {
        isn,
        ..Life::default()
    };
    life.bytes.everything = keep;
    life
}

/// What positions of the PVM count from.
fn base_of_pvm(numbers: Numbers, life: Option<&Life>) -> u32 {
    match numbers {
        Numbers::OwnIsn => life.and_then(|life| life.isn).unwrap_or(0),
        Numbers::Translated => 0,
    }
}

/// Sequence number of the first byte of payload.
pub fn payload_at(packet: &Packet) -> u32 {
    let syn = packet.tcp.flags.contains(TcpFlags::SYN);
    packet.tcp.seq.wrapping_add(u32::from(syn))
}

/// The sequence numbers that a segment takes behind its SYN, a FIN's included: the first, and the one behind the last.
pub fn numbers(packet: &Packet, payload: &[u8]) -> (u32, u32) {
    let flags = packet.tcp.flags;
    let at = payload_at(packet);
    let fin = flags.contains(TcpFlags::FIN) && !flags.contains(TcpFlags::RST);
    let length = match flags.contains(TcpFlags::RST) {
        true => 0,
        false => payload.len() as u32,
    };
    (at, at.wrapping_add(length).wrapping_add(fin.into()))
}

/// The payload, as far as the frame has it.
pub fn payload<'a>(packet: &Packet, bytes: &'a [u8]) -> &'a [u8] {
    let end = packet.end().min(bytes.len());
    bytes
        .get(usize::from(packet.payload)..end)
        .unwrap_or_default()
}

/// What a segment says beside its bytes: the first byte of each tells the layer.
fn options(packet: &Packet, bytes: &[u8]) -> Vec<Vec<u8>> {
    let named = |layer: u8| move |option: Vec<u8>| [&[layer][..], &option].concat();
    let mut all: Vec<Vec<u8>> = extras::network(packet, bytes)
        .into_iter()
        .map(named(3))
        .collect();
    if !packet.tcp.flags.contains(TcpFlags::SYN) {
        all.extend(extras::signals(packet, bytes).into_iter().map(named(4)));
    }
    all
}

/// Whether an end system drops it for want of an ACK.
fn stands_alone(packet: &Packet) -> bool {
    let needed = TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK;
    !packet.tcp.flags.intersects(needed)
}

fn alone(packet: &Packet, base: u32) -> (u32, u32, u8) {
    let bits = (TcpFlags::FIN | TcpFlags::URG).0;
    let at = payload_at(packet).wrapping_sub(base);
    (at, packet.payload_len, packet.tcp.flags.0 & bits)
}

fn acknowledged(packet: &Packet) -> Option<u32> {
    let tcp = packet.tcp;
    tcp.flags.contains(TcpFlags::ACK).then_some(tcp.ack)
}

fn later(known: Option<u32>, ack: u32) -> u32 {
    match known {
        Some(known) if before(ack, known) => known,
        _ => ack,
    }
}
