//! What the monitor's bytes may be: cut anywhere, damaged, endless, or no QMP at all.

use std::time::Instant;

use colo_testkit::qmp::{Monitor, event};
use colo_testkit::rng::Rng;
use dpdk_colo::qmp::{ProtocolError, Session};

use crate::pair::{Pair, TIMING};

#[test]
fn what_is_not_qmp_is_named() {
    type Check = fn(&ProtocolError) -> bool;
    let json: Check = |error| matches!(error, ProtocolError::Json { .. });
    let shape: Check = |error| matches!(error, ProtocolError::Shape { .. });
    let greeting: Check = |error| matches!(error, ProtocolError::NotGreeting { .. });
    let first: &[(&[u8], Check)] = &[
        (b"SSH-2.0-OpenSSH_9.2\r\n", json),
        (b"QEMU 7.2.22 monitor - type 'help'\r\n", json),
        (b"\xff\xfe\x00\n", json),
        (b"{\r\n", json),
        (b"[]\n", shape),
        (b"17\n", shape),
        (b"{}\n", greeting),
        (b"{\"event\": \"STOP\"}\n", greeting),
        (b"{\"QMP\": {}}\n", shape),
        (
            b"{\"QMP\": {\"version\": {\"qemu\": {\"major\": -1}}}}\n",
            shape,
        ),
    ];
    for (line, check) in first {
        let mut pair = Pair::new(Monitor::default());
        let error = pair.session.receive(line, pair.now).unwrap_err();
        assert!(check(&error), "{line:?}: {error}");
    }
    let later: &[(&[u8], Check)] = &[
        (b"{}\n", shape),
        (b"{\"return\": {}, \"event\": \"STOP\"}\n", shape),
        (b"{\"event\": 3}\n", shape),
        (b"{\"event\": \"MIGRATION\", \"data\": {}}\n", shape),
        (b"{\"event\": \"MIGRATION\"}\n", shape),
        (
            b"{\"event\": \"COLO_EXIT\", \"data\": {\"mode\": 1}}\n",
            shape,
        ),
        (
            b"{\"event\": \"MIGRATION_PASS\", \"data\": {\"pass\": -1}}\n",
            shape,
        ),
        (b"{\"event\": \"STOP\", \"timestamp\": 0}\n", shape),
        (b"nonsense\n", json),
    ];
    for (line, check) in later {
        let (mut pair, _) = Pair::connected(Monitor::default());
        let error = pair.session.receive(line, pair.now).unwrap_err();
        assert!(check(&error), "{line:?}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    // As deep as a line is long: the parser's own bound must come before the stack's.
    let (mut pair, _) = Pair::connected(Monitor::default());
    let mut deep = b"[".repeat(200_000);
    deep.push(b'\n');
    assert!(pair.session.receive(&deep, pair.now).is_err());
}

#[test]
fn an_endless_line_ends_the_session_within_bounds() {
    let endless = |mut pair: Pair| {
        let chunk = [b'a'; 1 << 16];
        (1..=1024)
            .find_map(|count| {
                let error = pair.session.receive(&chunk, pair.now).err()?;
                assert!(matches!(error, ProtocolError::LineTooLong { .. }));
                Some(count * chunk.len())
            })
            .expect("there is a bound")
    };
    assert!(endless(Pair::new(Monitor::default())) <= 512 << 10);
    assert!(endless(Pair::connected(Monitor::default()).0) <= 512 << 10);
    let mut pair = Pair::new(Monitor::default());
    let greeting = pair.monitor.greeting();
    pair.say(&greeting);
    let negotiate = pair.commands();
    let reply = pair.monitor.reply(&negotiate[0]);
    pair.say(&reply);
    assert!((1 << 20..16 << 20).contains(&endless(pair)));
}

/// One conversation as the monitor sent it, cut where the session had to write in between.
fn conversation() -> Vec<Vec<u8>> {
    let mut pair = Pair::new(Monitor {
        migration: "colo",
        ..Monitor::default()
    });
    let mut stages = vec![pair.monitor.greeting().into_bytes()];
    pair.say(&String::from_utf8(stages[0].clone()).unwrap());
    let noise = [
        event("STOP", ""),
        event("VSERPORT_CHANGE", r#"{"open": true, "id": "ä\u00e4"}"#),
        event("MIGRATION_PASS", r#"{"pass": 8}"#),
        event("MIGRATION", r#"{"status": "completed"}"#),
        event("RESUME", ""),
        event("COLO_EXIT", r#"{"mode": "secondary", "reason": "request"}"#),
        event("RESET", r#"{"guest": true, "reason": "guest-reset"}"#),
        event("SHUTDOWN", r#"{"guest": false, "reason": "host-signal"}"#),
    ];
    for turn in 0..8 {
        if turn == 4 {
            pair.session.request_checkpoint(1, pair.now).unwrap();
            pair.session.barrier(2, pair.now).unwrap();
        }
        let mut stage = String::new();
        for (at, command) in pair.commands().into_iter().enumerate() {
            stage.push_str(&noise[(turn + at) % noise.len()]);
            stage.push_str(&pair.monitor.reply(&command));
        }
        stage.push_str(&noise[turn]);
        pair.say(&stage);
        stages.push(stage.into_bytes());
    }
    stages
}

/// Plays a conversation in the chunks that `cut` makes of each stage; every event that came.
fn play(stages: &[Vec<u8>], cut: impl Fn(&[u8]) -> Vec<&[u8]>) -> (Vec<String>, bool) {
    let now = Instant::now();
    let mut session = Session::new(TIMING, 1, now);
    let mut events = Vec::new();
    for (turn, stage) in stages.iter().enumerate() {
        if turn == 5 {
            let _ = session.request_checkpoint(1, now);
            let _ = session.barrier(2, now);
        }
        session.written(session.output().len(), now);
        for chunk in cut(stage) {
            let received = session.receive(chunk, now);
            while let Some(event) = session.next_event() {
                events.push(format!("{event:?}").replace(&format!("{now:?}"), "now"));
            }
            if received.is_err() {
                return (events, false);
            }
        }
    }
    (events, true)
}

#[test]
fn chunks_make_no_difference() {
    let stages = conversation();
    let (want, whole) = play(&stages, |stage| vec![stage]);
    assert!(whole);
    assert!(want.len() > 10, "{want:?}");
    let longest = stages.iter().map(Vec::len).max().unwrap();
    for at in 0..=longest {
        let got = play(&stages, |stage| {
            let (a, b) = stage.split_at(at.min(stage.len()));
            vec![a, b]
        });
        assert_eq!(got, (want.clone(), true), "split at {at}");
    }
    for size in (1..100).chain([1000, 4096]) {
        let got = play(&stages, |stage| stage.chunks(size).collect());
        assert_eq!(got, (want.clone(), true), "chunks of {size}");
    }
}

#[test]
fn damaged_conversations_end_in_an_error_and_chunks_still_make_no_difference() {
    let mut random = Rng::for_test("damaged_conversations");
    let stages = conversation();
    let pieces: [&[u8]; 10] = [
        b"{",
        b"}",
        b"[",
        b"\"",
        b"\r\n",
        b"\\u",
        b"null",
        b"{\"return\": {}}\n",
        b"\xff",
        b"1e999",
    ];
    let mut failed = 0;
    for _ in 0..3000 {
        let mut damaged = stages.clone();
        for _ in 0..=random.below(4) {
            let which = random.below(damaged.len());
            let stage = &mut damaged[which];
            let at = random.below(stage.len().max(1));
            match random.below(6) {
                0 if at < stage.len() => stage[at] ^= 1 << random.below(8),
                1 => stage.truncate(at),
                2 => {
                    let piece = pieces[random.below(pieces.len())];
                    stage.splice(at..at, piece.iter().copied());
                }
                3 => {
                    let end = (at + random.below(40)).min(stage.len());
                    stage.drain(at..end);
                }
                4 => {
                    let other = stages[random.below(stages.len())].clone();
                    stage.splice(at..at, other);
                }
                _ => {
                    let length = random.below(50);
                    stage.splice(at..at, random.bytes(length));
                }
            }
        }
        let whole = play(&damaged, |stage| vec![stage]);
        let size = 1 + random.below(200);
        let chunked = play(&damaged, |stage| stage.chunks(size).collect());
        assert_eq!(whole.0, chunked.0, "chunks of {size}");
        assert_eq!(whole.1, chunked.1, "chunks of {size}");
        failed += usize::from(!whole.1);
    }
    assert!(failed > 1000, "only {failed} of 3000 were noticed");
}
