//! What the auditor reads: files of any bytes, and logs of any records in any order. It judges or says why it cannot.

use std::path::Path;

use dpdk_colo_audit::read::{Log, logs};
use dpdk_colo_audit::record::{Body, Event, Mask, Numbers, Place, PolicyRule, Record, Role, Start};
use dpdk_colo_audit::{Audit, Options};

use super::{in_directory, put};
use colo_testkit::packets::{self, Ends, Segment};
use colo_testkit::rng::Rng;

/// An even first byte: the events, a zero byte, the frames, as files. An odd one: a story.
pub fn run(data: &[u8]) {
    match data {
        [first, rest @ ..] if first % 2 == 0 => in_directory(|dir| files(dir, rest)),
        [_, rest @ ..] => records(&mut Rng::of_bytes(rest)),
        [] => {}
    }
}

fn files(dir: &Path, data: &[u8]) {
    let at = data
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(data.len());
    let (events, frames) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let name = |kind: &str| dir.join(format!("vm-primary-1.0123456789abcdef.{kind}"));
    put(&name("jsonl"), events);
    put(&name("pcapng"), frames);
    if let Ok(logs) = logs(dir, &["primary"], None) {
        assert_eq!(logs.len(), 1);
        judge(vec![logs], Options::default());
    }
}

fn judge(nodes: Vec<Vec<Log>>, options: Options) {
    if let Ok((report, _)) = Audit::new(nodes, options).run() {
        assert!(matches!(report.status(), 0..=2));
        assert!(!report.to_string().is_empty());
    }
}

fn records(rng: &mut Rng) {
    let nodes = (0..rng.between(1, 2)).map(|node| {
        (0..rng.between(1, 2))
            .map(|run| log(rng, node, run))
            .collect()
    });
    let nodes = nodes.collect();
    let options = Options {
        clock_error: [None, Some(0), Some(u64::MAX)][rng.below(3)],
        keep: rng.one_in(2),
    };
    judge(nodes, options);
}

fn log(rng: &mut Rng, node: usize, run: usize) -> Log {
    let start = Start {
        ns: time(rng),
        wall_ns: time(rng),
        host: ["a", "b"][rng.below(2)].into(),
        pair: "vm".into(),
        role: [Role::Primary, Role::Secondary, Role::Compare][(node + rng.below(2)) % 3],
        numbers: [Numbers::Translated, Numbers::OwnIsn][rng.below(2)],
        policy: rules(rng),
    };
    let mut records = Vec::new();
    let (mut seq, mut ns) = (0, 0u64);
    for _ in 0..rng.below(40) {
        seq += if rng.one_in(40) { 2 } else { 1 };
        ns = ns.wrapping_add(if rng.one_in(20) { rng.next() } else { 1 });
        let body = match rng.one_in(3) {
            true => Body::Event(event(rng)),
            false => Body::Frame {
                place: [Place::P, Place::S, Place::Out, Place::In, Place::Other][rng.below(5)],
                epoch: epoch(rng),
                bytes: frame(rng).into(),
            },
        };
        records.push(Record { seq, ns, body });
    }
    Log::of_records(&format!("{node}-{run}"), start, records)
}

fn time(rng: &mut Rng) -> u64 {
    match rng.below(3) {
        0 => rng.next(),
        1 => rng.below(3) as u64,
        _ => u64::MAX - rng.below(3) as u64,
    }
}

fn rules(rng: &mut Rng) -> Vec<PolicyRule> {
    let rule = |rng: &mut Rng| PolicyRule {
        name: "rule".into(),
        protocol: ["tcp", "udp", "icmp", "any", "?"][rng.below(5)].into(),
        port: rng.one_in(2).then(|| 1_000 + rng.below(3) as u16),
        prefix: [
            None,
            Some("10.0.0.0/24"),
            Some("10.0.0.2/33"),
            Some("fd00::/8"),
            Some("/"),
        ][rng.below(5)]
        .map(Into::into),
        vlan: rng.one_in(3).then(|| 100 + rng.below(2) as u16),
        mask: rng.one_in(2).then(|| Mask {
            after: vec![b'a' + rng.below(2) as u8; rng.below(3)],
            most: rng.below(5),
            until: rng.one_in(2).then(|| rng.byte()),
            dry_run: rng.one_in(4),
            expires_ns: rng.one_in(4).then(|| rng.word().into()),
        }),
    };
    (0..[0, 0, 0, 2][rng.below(4)]).map(|_| rule(rng)).collect()
}

fn epoch(rng: &mut Rng) -> u32 {
    match rng.below(8) {
        0 => rng.word(),
        1 => 0u32.wrapping_sub(1),
        n => n as u32 / 3,
    }
}

fn event(rng: &mut Rng) -> Event {
    let yes = rng.one_in(2);
    match rng.below(20) {
        0 => Event::Fence { epoch: epoch(rng) },
        1 => Event::MonitorConnected {
            colo: yes,
            running: rng.one_in(2),
        },
        2 => Event::MonitorLost,
        3 | 4 => Event::Stop,
        5 => Event::Pass,
        6 => Event::RunState { colo: yes },
        7 => Event::Loaded {
            covers: yes.then(|| epoch(rng)),
        },
        8 => Event::Witness { able: yes },
        9 | 10 => Event::Resume,
        11 => Event::Migration { colo: yes },
        12 => Event::ColoExit,
        13 => Event::Barrier { colo: yes },
        14 => Event::State {
            state: [
                "solo",
                "pairing",
                "protected",
                "uncertain",
                "peer_lost",
                "?",
            ][rng.below(6)]
            .into(),
            epoch: epoch(rng),
        },
        15 => Event::Commit { epoch: epoch(rng) },
        16 => Event::Discarded {
            frames: rng.below(3) as u64,
        },
        17 => [Event::Takeover, Event::Alone][usize::from(yes)].clone(),
        18 => Event::Gap {
            lost: rng.below(3) as u64,
        },
        _ => [Event::End, Event::Other][usize::from(yes)].clone(),
    }
}

fn frame(rng: &mut Rng) -> Vec<u8> {
    let ends = Ends {
        v6: rng.one_in(4),
        vlans: [Vec::new(), vec![100]][rng.below(2)].clone(),
        peer: 2,
        port: 1_000 + rng.below(2) as u16,
        peer_port: 40_000,
        from_peer: false,
    };
    let payload: Vec<u8> = (0..rng.below(6)).map(|at| at as u8 & 1).collect();
    let mut bytes = match rng.below(6) {
        0 => packets::udp(&ends, &payload, rng.byte()),
        1 => packets::echo_reply(&ends, &payload, 0),
        2 => packets::ethernet(&ends, 0x0806),
        _ => {
            let segment = Segment {
                seq: rng.sequence(),
                ack: rng.one_in(2).then(|| rng.sequence()),
                syn: rng.one_in(6),
                fin: rng.one_in(6),
                rst: rng.one_in(12),
                window: rng.byte().into(),
                options: match rng.below(3) {
                    0 => packets::timestamp_options(rng.word()),
                    _ => Vec::new(),
                },
                payload,
            };
            packets::tcp(&ends, &segment, rng.byte())
        }
    };
    if rng.one_in(8) && !bytes.is_empty() {
        let at = rng.below(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
    }
    if rng.one_in(16) {
        bytes.truncate(rng.below(bytes.len() + 1));
    }
    bytes
}
