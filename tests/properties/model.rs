//! What may leave, decided the slow and obvious way: from everything that both VMs have sent.
//!
//! The model shares no code with the comparison and no sequence arithmetic: positions count from
//! the first byte of a connection's stream, acknowledgments from the client's first byte.

use std::collections::VecDeque;

/// A segment by what it means.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Which connection of the flow.
    pub incarnation: usize,
    /// Position of the first byte; a SYN stands at 0 like the byte after it.
    pub at: u32,
    pub data: Vec<u8>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// Bytes of the client that are acknowledged.
    pub ack: Option<u32>,
}

impl Segment {
    pub fn end(&self) -> u32 {
        self.at + self.data.len() as u32
    }

    fn byte_at(&self, position: u32) -> Option<u8> {
        let k = position.checked_sub(self.at)?;
        self.data.get(k as usize).copied()
    }
}

/// What a frame is to the model.
#[derive(Clone, Debug)]
pub enum Meaning {
    Tcp(Segment),
    /// Content that some S of the flow must repeat.
    Datagram(Vec<u8>),
    /// Nothing can witness it: it leaves with a commit.
    Unreadable,
    /// The model does not know what it says.
    Unknown,
}

/// One connection of a flow.
#[derive(Default)]
struct Connection {
    /// S of this epoch.
    secondary: Vec<Segment>,
    /// Bytes that have left.
    left: Vec<Option<u8>>,
    syn_left: bool,
    fin_left: Option<u32>,
    rst_left: Vec<(u32, Option<u32>)>,
    /// Most that has been acknowledged to the client, and at the last commit.
    ack_left: Option<u32>,
    ack_committed: Option<u32>,
}

impl Connection {
    fn violation(&self, p: &Segment) -> Option<String> {
        let s = &self.secondary;
        for (position, &byte) in (p.at..).zip(&p.data) {
            let before = self.left.get(position as usize).copied().flatten();
            if before.is_some_and(|b| b != byte) {
                return Some(format!("byte {position} leaves again with another value"));
            }
            if before.is_none() && !s.iter().any(|s| s.byte_at(position) == Some(byte)) {
                return Some(format!("byte {position} is not what the SVM sent"));
            }
        }
        if p.syn && !self.syn_left && !s.iter().any(|s| s.syn) {
            return Some("SYN without the SVM's".into());
        }
        let end = p.end();
        if p.fin && self.fin_left != Some(end) && !s.iter().any(|s| s.fin && s.end() == end) {
            return Some("FIN without the SVM's".into());
        }
        let again = self.rst_left.contains(&(p.at, p.ack));
        if p.rst && !again && !s.iter().any(|s| s.rst && s.at == p.at) {
            return Some("RST without the SVM's".into());
        }
        let gate = s.iter().filter_map(|s| s.ack).max().max(self.ack_committed);
        if p.ack > gate {
            return Some(format!("acknowledges {:?}, the SVM {gate:?}", p.ack));
        }
        None
    }

    fn leave(&mut self, p: &Segment) {
        if self.left.len() < p.end() as usize {
            self.left.resize(p.end() as usize, None);
        }
        for (position, &byte) in (p.at..).zip(&p.data) {
            self.left[position as usize] = Some(byte);
        }
        self.syn_left |= p.syn;
        if p.fin {
            self.fin_left = Some(p.end());
        }
        if p.rst {
            self.rst_left.push((p.at, p.ack));
        }
        self.ack_left = self.ack_left.max(p.ack);
    }
}

/// One flow of one VM pair.
#[derive(Default)]
pub struct Flow {
    connections: Vec<Connection>,
    /// S of this epoch that no P has used up.
    datagrams: Vec<Vec<u8>>,
    /// P that have not left, by their number.
    waiting: VecDeque<usize>,
    /// A difference was reported in this epoch.
    pub diverged: bool,
}

impl Flow {
    fn connection(&mut self, incarnation: usize) -> &mut Connection {
        while self.connections.len() <= incarnation {
            self.connections.push(Connection::default());
        }
        &mut self.connections[incarnation]
    }

    pub fn primary(&mut self, number: usize) {
        self.waiting.push_back(number);
    }

    pub fn secondary(&mut self, meaning: &Meaning) {
        match meaning {
            Meaning::Tcp(s) => {
                let s = s.clone();
                self.connection(s.incarnation).secondary.push(s);
            }
            Meaning::Datagram(content) => self.datagrams.push(content.clone()),
            Meaning::Unreadable | Meaning::Unknown => {}
        }
    }

    /// Whether a P may leave now; `committed` when a commit covers it.
    pub fn leave(
        &mut self,
        number: usize,
        meaning: &Meaning,
        committed: bool,
    ) -> Result<(), String> {
        if self.waiting.front() != Some(&number) {
            return Err(format!("{:?} should leave first", self.waiting.front()));
        }
        self.waiting.pop_front();
        if self.diverged && !committed {
            return Err("leaves after a difference".into());
        }
        match meaning {
            Meaning::Tcp(p) => {
                let connection = self.connection(p.incarnation);
                if let Some(violation) = connection.violation(p).filter(|_| !committed) {
                    return Err(violation);
                }
                connection.leave(p);
            }
            Meaning::Datagram(content) if !committed => {
                match self.datagrams.iter().position(|s| s == content) {
                    Some(i) => drop(self.datagrams.swap_remove(i)),
                    None => return Err("datagram that the SVM did not send".into()),
                }
            }
            Meaning::Unreadable if !committed => return Err("unreadable, yet it leaves".into()),
            _ => {}
        }
        Ok(())
    }

    pub fn syn_has_left(&self, incarnation: usize) -> bool {
        let connection = self.connections.get(incarnation);
        connection.is_some_and(|c| c.syn_left)
    }

    /// What the SVM has sent is void.
    pub fn fence(&mut self) {
        self.datagrams.clear();
        for connection in &mut self.connections {
            connection.secondary.clear();
        }
    }

    /// The SVM's state is the PVM's.
    pub fn commit(&mut self) {
        self.diverged = false;
        for connection in &mut self.connections {
            connection.ack_committed = connection.ack_left;
        }
    }
}
