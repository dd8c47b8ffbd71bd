//! The datagrams by which a control thread reports whether its poll core runs (rules R6, R11).
//!
//! In: random bytes, datagrams, and for how long the own poll core has not finished a round. Out: datagrams, and the
//! same of the peer's, where its datagram proves that it is no older than this node's last nonce.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 2 | magic 0xc012 |
//! | 2 | 2 | version 1 |
//! | 4 | 2 | VM id |
//! | 6 | 2 | 0 |
//! | 8 | 16 | nonce of the sender's process |
//! | 24 | 16 | nonce of the peer's as the sender knows it, else 0 |
//! | 40 | 8 | number, from 1 |
//! | 48 | 4 | milliseconds since the poll core finished a round |
//! | 52 | 16 | HMAC-SHA256 of the above with the first key, its first 16 bytes |
//! | 68 | 16 | the same with the second key, else 0 |
//!
//! A datagram counts once, and only if it names this process's nonce: then its sender has heard this process, and no
//! record of an earlier process of either node passes. An attacker on the path can delay or drop datagrams; a delayed
//! report says that the peer lacks CPU for as long as the receiver's limit at most.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::keys::{KeyRing, Source};
use super::mac::TAG;
use super::wire::{KEYS, Nonce};

/// Bytes of a datagram.
pub const PROGRESS: usize = BODY + KEYS * TAG;
const BODY: usize = 52;
const MAGIC: u16 = 0xc012;
const VERSION: u16 = 1;
/// Reports in a row that the peer may miss before a node that claims to be the peer is answered again.
const FORGET: u32 = 8;
/// Processes of the peer that are remembered, so that what they sent does not count again.
const EARLIER: usize = 64;

/// What a datagram came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Milliseconds since the peer's poll core finished its last round.
    Peer {
        /// Milliseconds.
        stalled: u32,
    },
    /// It has the key, and has not heard this process yet.
    Unproven,
    /// It does not count.
    Void,
}

/// One end of the exchange.
pub struct ProgressExchange {
    vm: u16,
    keys: [Option<Hmac<Sha256>>; KEYS],
    own: Nonce,
    number: u64,
    peer: Option<Peer>,
    /// Who has the key and has not proven that it is no record.
    claims: Nonce,
    earlier: Vec<Nonce>,
    unheard: u32,
}

/// The peer's present process.
struct Peer {
    nonce: Nonce,
    number: u64,
}

impl ProgressExchange {
    /// The end of one VM's node; `seed` is random.
    pub fn new(ring: &KeyRing, vm: u16, seed: &[u8; 32]) -> Self {
        Self {
            vm,
            keys: ring.progress_keys(vm),
            own: Source::new(seed).nonce(),
            number: 0,
            peer: None,
            claims: Nonce::default(),
            earlier: Vec::new(),
            unheard: 0,
        }
    }

    /// The next datagram, of a poll core that finished a round `stalled` milliseconds ago.
    pub fn next(&mut self, stalled: u32) -> [u8; PROGRESS] {
        self.number += 1;
        self.unheard = self.unheard.saturating_add(1);
        let echo = match &self.peer {
            Some(peer) if self.unheard <= FORGET => peer.nonce,
            _ => self.claims,
        };
        let mut out = [0; PROGRESS];
        out[0..2].copy_from_slice(&MAGIC.to_be_bytes());
        out[2..4].copy_from_slice(&VERSION.to_be_bytes());
        out[4..6].copy_from_slice(&self.vm.to_be_bytes());
        out[8..24].copy_from_slice(&self.own);
        out[24..40].copy_from_slice(&echo);
        out[40..48].copy_from_slice(&self.number.to_be_bytes());
        out[48..52].copy_from_slice(&stalled.to_be_bytes());
        let (body, tags) = out.split_at_mut(BODY);
        for (key, tag) in self.keys.iter().zip(tags.chunks_exact_mut(TAG)) {
            if let Some(key) = key {
                let mut mac = key.clone();
                mac.update(body);
                tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
            }
        }
        out
    }

    /// Takes a datagram in.
    pub fn receive(&mut self, bytes: &[u8]) -> Heard {
        let Some(report) = Report::decode(bytes) else {
            return Heard::Void;
        };
        // The sender's nonce comes first: a reflected datagram is this process's own.
        if report.vm != self.vm || report.sender == self.own || !self.is_authentic(bytes) {
            return Heard::Void;
        }
        if report.echo != self.own {
            self.claims = report.sender;
            return Heard::Unproven;
        }
        match &mut self.peer {
            Some(peer) if peer.nonce == report.sender => {
                if report.number <= peer.number {
                    return Heard::Void;
                }
                peer.number = report.number;
            }
            _ if self.earlier.contains(&report.sender) => return Heard::Void,
            peer => {
                if let Some(before) = peer {
                    if self.earlier.len() == EARLIER {
                        self.earlier.remove(0);
                    }
                    self.earlier.push(before.nonce);
                }
                *peer = Some(Peer {
                    nonce: report.sender,
                    number: report.number,
                });
            }
        }
        self.unheard = 0;
        Heard::Peer {
            stalled: report.stalled,
        }
    }

    /// Whether one of its tags was made with one of this node's keys.
    fn is_authentic(&self, bytes: &[u8]) -> bool {
        let (body, tags) = bytes.split_at(BODY);
        self.keys.iter().flatten().any(|key| {
            tags.chunks_exact(TAG).any(|tag| {
                let mut mac = key.clone();
                mac.update(body);
                mac.verify_truncated_left(tag).is_ok()
            })
        })
    }
}

/// The fields of a datagram.
struct Report {
    vm: u16,
    sender: Nonce,
    echo: Nonce,
    number: u64,
    stalled: u32,
}

impl Report {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PROGRESS] = bytes.try_into().ok()?;
        let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if u16_at(0) != MAGIC || u16_at(2) != VERSION {
            return None;
        }
        Some(Self {
            vm: u16_at(4),
            sender: bytes[8..24].try_into().ok()?,
            echo: bytes[24..40].try_into().ok()?,
            number: u64::from_be_bytes(bytes[40..48].try_into().ok()?),
            stalled: u32::from_be_bytes(bytes[48..52].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const B: &str = "f0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn end(keys: &str, seed: u8) -> ProgressExchange {
        ProgressExchange::new(&KeyRing::parse(keys).expect("keys"), 7, &[seed; 32])
    }

    /// Two ends that have heard each other.
    fn joined(a: &str, b: &str) -> (ProgressExchange, ProgressExchange) {
        let (mut a, mut b) = (end(a, 1), end(b, 2));
        assert_eq!(b.receive(&a.next(0)), Heard::Unproven);
        assert_eq!(a.receive(&b.next(0)), Heard::Peer { stalled: 0 });
        assert_eq!(b.receive(&a.next(0)), Heard::Peer { stalled: 0 });
        (a, b)
    }

    #[test]
    fn a_report_counts_once_and_in_order() {
        let (mut a, mut b) = joined(A, A);
        let (first, second) = (a.next(10), a.next(20));
        assert_eq!(b.receive(&second), Heard::Peer { stalled: 20 });
        assert_eq!(b.receive(&second), Heard::Void);
        assert_eq!(
            b.receive(&first),
            Heard::Void,
            "an older one says nothing new"
        );
    }

    #[test]
    fn nothing_counts_that_the_peer_has_not_made_for_this_process() {
        let (mut a, mut b) = joined(A, A);
        let report = a.next(10);
        assert_eq!(a.receive(&report), Heard::Void, "reflected");
        for at in 0..report.len() {
            let mut forged = report;
            forged[at] ^= 1;
            // Zeros behind the one tag are no tag, and nobody's business.
            if at < BODY + TAG {
                assert_eq!(b.receive(&forged), Heard::Void, "byte {at}");
            }
        }
        for length in 0..report.len() {
            assert_eq!(b.receive(&report[..length]), Heard::Void, "{length} bytes");
        }
        let mut stranger = end(B, 3);
        assert_eq!(b.receive(&stranger.next(0)), Heard::Void, "another key");
        let mut restarted = end(A, 4);
        assert_eq!(
            restarted.receive(&report),
            Heard::Unproven,
            "a record of before"
        );
        assert_eq!(b.receive(&report), Heard::Peer { stalled: 10 });
        let mut other = ProgressExchange::new(&KeyRing::parse(A).expect("a key"), 8, &[5; 32]);
        assert_eq!(other.receive(&report), Heard::Void, "another VM");
    }

    #[test]
    fn a_peer_that_was_restarted_is_heard_again_and_its_predecessor_is_not() {
        let (mut a, mut b) = joined(A, A);
        let late = a.next(99);
        let mut again = end(A, 9);
        let met = (0..2 * FORGET).find(|_| {
            b.receive(&again.next(0));
            matches!(again.receive(&b.next(0)), Heard::Peer { .. })
        });
        assert!(met.is_some(), "the new process gets an answer");
        assert_eq!(b.receive(&again.next(5)), Heard::Peer { stalled: 5 });
        assert_eq!(b.receive(&late), Heard::Void);
    }

    #[test]
    fn records_do_not_keep_the_peer_from_being_heard() {
        let (mut a, mut b) = joined(A, A);
        let record = end(A, 8).next(0);
        for _ in 0..3 * FORGET {
            b.receive(&record);
            a.receive(&b.next(0));
            assert_eq!(b.receive(&a.next(1)), Heard::Peer { stalled: 1 });
        }
    }

    #[test]
    fn keys_roll_over() {
        joined(&format!("{B}\n{A}"), A);
        joined(A, &format!("{B}\n{A}"));
        joined(&format!("{B}\n{A}"), &format!("{A}\n{B}"));
    }
}
