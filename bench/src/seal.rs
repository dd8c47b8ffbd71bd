//! What a frame of the link costs with a key: the seal and its check, beside `memcpy` and other MACs in the same run.

use std::hint::black_box;

use chacha20::cipher::{KeyIvInit, StreamCipher};
use dpdk_colo::link::Timing;
use dpdk_colo::link::secure::{Guard, Identity, KeyRing, Opened, Role, SEAL};
use hmac::{Hmac, KeyInit, Mac};
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use sha2::Sha256;

use crate::engine::{Span, ticks};
use crate::instructions;
use crate::samples::quantile;

/// Bytes that are sealed: the least frames that a guest sends, and a full segment.
const SIZES: [usize; 2] = [64, 1448];
/// Frames that take turns: few enough that they stay in the second-level cache, where a port leaves them.
const FRAMES: usize = 64;
/// Frames of one measurement.
const CHUNK: usize = 256;
/// Measurements of each case.
const CHUNKS: usize = 2000;
/// Where a frame is cut that lies in two mbufs: behind the link's header.
const CUT: usize = 58;
/// Frames that are counted under valgrind.
const COUNTED: usize = 2048;
/// The function whose instructions count.
const MEASURED: &str = "*seal::measured*";

/// What is done to each frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Copy,
    Seal,
    SealChain,
    Open,
    Poly1305,
    Blake3,
    HmacSha256,
}

impl What {
    const ALL: [Self; 7] = [
        Self::Copy,
        Self::Seal,
        Self::SealChain,
        Self::Open,
        Self::Poly1305,
        Self::Blake3,
        Self::HmacSha256,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Copy => "memcpy",
            Self::Seal => "seal",
            Self::SealChain => "seal-chain",
            Self::Open => "open",
            Self::Poly1305 => "chacha20-poly1305",
            Self::Blake3 => "blake3",
            Self::HmacSha256 => "hmac-sha256",
        }
    }
}

/// One case with all that it needs.
struct Work {
    what: What,
    bytes: usize,
    frames: Vec<Vec<u8>>,
    sealed: Vec<Vec<u8>>,
    sender: Guard,
    receiver: Guard,
    copy: Vec<u8>,
    number: u64,
}

fn guard(role: Role, seed: u8) -> Guard {
    let ring = KeyRing::parse(&"5a".repeat(32)).expect("a key");
    let identity = Identity {
        vm: 1,
        role,
        mac: [2, 0, 0, 0, 0, seed],
        seed: [seed; 32],
    };
    let timing = Timing {
        heartbeat: 1,
        retransmit: 1,
        silence: 1000,
        gap: 1000,
        stall: 0,
        restart: 0,
    };
    Guard::new(&ring, &identity, timing)
}

/// Two guards in a session.
fn session() -> (Guard, Guard) {
    let (mut a, mut b) = (guard(Role::Primary, 1), guard(Role::Secondary, 2));
    for now in 0..4 {
        while let Some(greeting) = a.next_greeting(now) {
            b.open(greeting.bytes(), std::iter::once(greeting.bytes()), now);
        }
        while let Some(greeting) = b.next_greeting(now) {
            a.open(greeting.bytes(), std::iter::once(greeting.bytes()), now);
        }
    }
    (a, b)
}

impl Work {
    fn new(what: What, bytes: usize) -> Self {
        let (sender, receiver) = session();
        let frame = |n: usize| (0..bytes).map(|at| (at * 7 + n) as u8).collect();
        Self {
            what,
            bytes,
            frames: (0..FRAMES).map(frame).collect(),
            sealed: Vec::new(),
            sender,
            receiver,
            copy: vec![0; bytes],
            number: 0,
        }
    }

    /// What is not measured: frames to open count once only.
    fn prepare(&mut self, frames: usize) {
        if self.what != What::Open {
            return;
        }
        self.sealed.resize(frames, Vec::new());
        for (n, sealed) in self.sealed.iter_mut().enumerate() {
            let frame = &self.frames[n % FRAMES][..];
            let seal = self.sender.seal(frame, std::iter::once(frame));
            sealed.clear();
            sealed.extend(seal.expect("a session"));
            sealed.extend(frame);
        }
    }

    fn name(&self) -> String {
        format!("seal/{}/{}", self.bytes, self.what.name())
    }
}

/// Runs the operation on this many frames.
#[inline(never)]
fn measured(work: &mut Work, frames: usize) {
    for n in 0..frames {
        let frame = &work.frames[n % FRAMES][..];
        work.number += 1;
        match work.what {
            What::Copy => {
                work.copy.copy_from_slice(black_box(frame));
                black_box(&mut work.copy);
            }
            What::Seal => {
                black_box(work.sender.seal(frame, std::iter::once(black_box(frame))));
            }
            What::SealChain => {
                let (head, rest) = black_box(frame).split_at(CUT);
                black_box(work.sender.seal(frame, [head, rest].into_iter()));
            }
            What::Open => {
                let sealed = &work.sealed[n][..];
                let opened = work.receiver.open(sealed, std::iter::once(sealed), 1);
                assert_eq!(opened, Opened::Sealed);
            }
            What::Poly1305 => {
                let mut nonce = [0; 12];
                nonce[4..].copy_from_slice(&work.number.to_be_bytes());
                let mut cipher = chacha20::ChaCha20::new(&[7; 32].into(), &nonce.into());
                let mut key = [0; 32];
                cipher.apply_keystream(&mut key);
                let mut mac = Poly1305::new(&key.into());
                mac.update_padded(black_box(frame));
                black_box(mac.finalize());
            }
            What::Blake3 => {
                black_box(blake3::keyed_hash(&[7; 32], black_box(frame)));
            }
            What::HmacSha256 => {
                let mut mac = Hmac::<Sha256>::new(&[7; 64].into());
                mac.update(black_box(frame));
                black_box(mac.finalize());
            }
        }
    }
}

fn all() -> impl Iterator<Item = Work> {
    SIZES
        .into_iter()
        .flat_map(|bytes| What::ALL.map(|what| Work::new(what, bytes)))
}

/// Runs one case, to be watched by valgrind; false if there is no such case.
pub fn workload(name: &str) -> bool {
    let Some(mut work) = all().find(|work| work.name() == name) else {
        return false;
    };
    work.prepare(COUNTED);
    measured(&mut work, COUNTED);
    true
}

/// Measures all and prints a table.
///
/// # Errors
/// When valgrind does not count.
pub fn run() -> Result<(), instructions::Error> {
    let mut works: Vec<Work> = all().collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(CHUNKS); works.len()];
    let span = Span::begin();
    for _ in 0..CHUNKS {
        for (work, times) in works.iter_mut().zip(&mut times) {
            work.prepare(CHUNK);
            let begin = ticks();
            measured(work, CHUNK);
            times.push((ticks() - begin) as f64 / CHUNK as f64);
        }
    }
    let ns = span.ns_per_tick();
    println!("| bytes | what | ns | cycles (TSC) | cycles a byte | instructions | times memcpy |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut copy = 1.0;
    for (work, times) in works.iter().zip(&mut times) {
        times.sort_unstable_by(f64::total_cmp);
        let median = quantile(times, 0.5);
        if work.what == What::Copy {
            copy = median;
        }
        let counted = instructions::count_of(&work.name(), MEASURED)? as f64 / COUNTED as f64;
        println!(
            "| {} | {} | {:.1} | {median:.0} | {:.2} | {counted:.0} | {:.1} |",
            work.bytes,
            work.what.name(),
            median * ns,
            median / work.bytes as f64,
            median / copy,
        );
    }
    let overhead = SEAL;
    println!("a seal has {overhead} bytes; medians of {CHUNKS} times {CHUNK} frames, in turns");
    Ok(())
}
