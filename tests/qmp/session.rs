//! The session without I/O: what comes out for what goes in, in whatever chunks.

use std::time::{Duration, Instant};

use dpdk_colo::qmp::{
    ColoExitReason, ColoMode, Event, MigrationStatus, NoColo, Probe, ProtocolError, QemuTime,
    RequestError, RequestFailure, RunState, Session, Stamp, Timing, Version,
};

use crate::script::{Monitor, event};

const TIMING: Timing = Timing {
    reply_timeout: Duration::from_secs(10),
    refresh_interval: Duration::from_secs(2),
};

/// A session with its monitor, and the time that both live in.
struct Pair {
    session: Session,
    monitor: Monitor,
    now: Instant,
}

impl Pair {
    fn new(monitor: Monitor) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(TIMING, 1, now),
            monitor,
            now,
        }
    }

    fn connected(monitor: Monitor) -> (Self, Probe) {
        let mut pair = Self::new(monitor);
        let greeting = pair.monitor.greeting();
        pair.say(&greeting);
        pair.talk();
        match &pair.events()[..] {
            [Event::Connected(probe)] => {
                let probe = probe.as_ref().clone();
                (pair, probe)
            }
            events => panic!("not connected: {events:?}"),
        }
    }

    fn say(&mut self, text: &str) {
        self.session
            .receive(text.as_bytes(), self.now)
            .expect("the session goes on");
    }

    /// Commands that wait, as lines, handed to the kernel as a whole.
    fn commands(&mut self) -> Vec<String> {
        let text = String::from_utf8(self.session.output().to_vec()).expect("JSON is UTF-8");
        self.session.written(text.len(), self.now);
        text.lines().map(Into::into).collect()
    }

    /// Lets the monitor reply until nothing is left to reply to.
    fn talk(&mut self) {
        loop {
            let commands = self.commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                let reply = self.monitor.reply(&command);
                self.say(&reply);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now).expect("nothing is overdue");
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.next_event()).collect()
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            read: self.now,
            qemu: Some(QemuTime {
                seconds: 1_700_000_000,
                microseconds: 42,
            }),
        }
    }
}

#[test]
fn the_probe_tells_what_the_monitor_said() {
    let (pair, probe) = Pair::connected(Monitor {
        migration: "colo",
        run: "colo",
        ..Monitor::default()
    });
    assert_eq!(
        probe,
        Probe {
            version: Version {
                major: 7,
                minor: 2,
                micro: 22
            },
            package: "Debian".into(),
            colo: Ok(()),
            caution: None,
            run: RunState::Colo,
            migration: MigrationStatus::Colo,
            events_capability: true,
            checkpoint_delay_ms: Some(20_000),
            colo_mode: None,
            colo_exit: None,
        }
    );
    let set = pair.monitor.seen("migrate-set-capabilities");
    assert_eq!(set.len(), 1);
    assert_eq!(
        set[0]["arguments"].to_string(),
        r#"{"capabilities":[{"capability":"events","state":true}]}"#
    );
}

#[test]
fn a_capability_that_is_on_is_left_alone() {
    let (pair, probe) = Pair::connected(Monitor {
        events: true,
        ..Monitor::default()
    });
    assert!(probe.events_capability);
    assert!(pair.monitor.seen("migrate-set-capabilities").is_empty());
}

#[test]
fn a_build_without_colo_is_named_and_takes_no_request() {
    let (mut pair, probe) = Pair::connected(Monitor {
        colo: false,
        ..Monitor::default()
    });
    assert_eq!(probe.colo, Err(NoColo::Capability));
    assert_eq!(
        pair.session.request_checkpoint(1, pair.now),
        Err(RequestError::NoColo(NoColo::Capability))
    );
    assert_eq!(pair.session.barrier(1, pair.now), Ok(()));

    let (_, probe) = Pair::connected(Monitor {
        version: (10, 1, 0),
        ..Monitor::default()
    });
    assert_eq!(probe.colo, Err(NoColo::Version(probe.version)));
}

#[test]
fn events_while_probing_change_the_probe_and_nothing_else() {
    let mut pair = Pair::new(Monitor::default());
    let greeting = pair.monitor.greeting();
    pair.say(&greeting);
    loop {
        let commands = pair.commands();
        if commands.is_empty() {
            break;
        }
        for command in commands {
            if command.contains("query-status") {
                pair.say(&event("STOP", ""));
                pair.say(&event("MIGRATION", r#"{"status": "completed"}"#));
                pair.say(&event(
                    "COLO_EXIT",
                    r#"{"mode": "primary", "reason": "error"}"#,
                ));
            }
            let reply = pair.monitor.reply(&command);
            pair.say(&reply);
        }
    }
    match &pair.events()[..] {
        [Event::Connected(probe)] => {
            assert_eq!(probe.migration, MigrationStatus::Completed);
            assert_eq!(
                probe.colo_exit,
                Some((ColoMode::Primary, ColoExitReason::Error))
            );
        }
        events => panic!("{events:?}"),
    }
}

#[test]
fn every_nic_gets_its_link() {
    let (mut pair, _) = Pair::connected(Monitor::default());
    pair.session.raise_links(pair.now).unwrap();
    pair.talk();
    let seen = pair.monitor.seen("set_link");
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0]["arguments"],
        serde_json::json!({"name": "nic", "up": true})
    );
    let events = pair.events();
    assert!(
        matches!(&events[..], [Event::LinkRaised { nic }] if nic == "nic"),
        "{events:?}"
    );
}

#[test]
fn a_checkpoint_is_told_step_by_step() {
    let (mut pair, _) = Pair::connected(Monitor {
        migration: "colo",
        ..Monitor::default()
    });
    pair.session.request_checkpoint(9, pair.now).unwrap();
    pair.talk();
    for line in [
        event("STOP", ""),
        event("MIGRATION_PASS", r#"{"pass": 7}"#),
        event("NIC_RX_FILTER_CHANGED", r#"{"path": "/x"}"#),
        event("RESUME", ""),
    ] {
        pair.say(&line);
    }
    let (at, stamp) = (pair.now, pair.stamp());
    let want = [
        Event::RequestWritten { token: 9, at },
        Event::RequestAccepted { token: 9, at },
        Event::Stop { at: stamp },
        Event::MigrationPass { pass: 7, at: stamp },
        Event::Resume { at: stamp },
    ];
    assert_eq!(format!("{:?}", pair.events()), format!("{want:?}"));
}

#[test]
fn a_request_is_written_when_its_last_byte_is() {
    let (mut pair, _) = Pair::connected(Monitor::default());
    pair.session.request_checkpoint(9, pair.now).unwrap();
    let length = pair.session.output().len();
    for _ in 1..length {
        pair.session.written(1, pair.now);
        assert!(pair.events().is_empty());
    }
    pair.session.written(1, pair.now);
    assert!(matches!(
        &pair.events()[..],
        [Event::RequestWritten { token: 9, .. }]
    ));
}

#[test]
fn a_request_repeats_the_operators_delay() {
    let (mut pair, _) = Pair::connected(Monitor::default());
    let request = |pair: &mut Pair| {
        pair.session.request_checkpoint(1, pair.now).unwrap();
        pair.talk();
        let set = pair.monitor.seen("migrate-set-parameters");
        set.last().unwrap()["arguments"].to_string()
    };
    assert_eq!(request(&mut pair), r#"{"x-checkpoint-delay":20000}"#);

    pair.monitor.delay = 600_000;
    pair.say(&event("MIGRATION", r#"{"status": "setup"}"#));
    pair.talk();
    assert_eq!(request(&mut pair), r#"{"x-checkpoint-delay":600000}"#);

    pair.monitor.delay = 0;
    pair.pass(TIMING.refresh_interval);
    pair.talk();
    assert_eq!(request(&mut pair), r#"{"x-checkpoint-delay":0}"#);
}

#[test]
fn a_refused_request_says_why() {
    let (mut pair, _) = Pair::connected(Monitor {
        request_refused: true,
        ..Monitor::default()
    });
    pair.session.request_checkpoint(5, pair.now).unwrap();
    pair.talk();
    match &pair.events()[..] {
        [
            Event::RequestWritten { .. },
            Event::RequestFailed {
                token: 5,
                cause: cause @ RequestFailure::Refused(_),
            },
        ] => assert!(cause.to_string().contains("is not allowed"), "{cause}"),
        events => panic!("{events:?}"),
    }
}

#[test]
fn the_events_capability_is_tried_again_when_no_migration_runs() {
    let (mut pair, probe) = Pair::connected(Monitor {
        migration: "colo",
        events_refused: true,
        ..Monitor::default()
    });
    assert!(!probe.events_capability);
    assert_eq!(probe.colo, Ok(()));

    pair.pass(TIMING.refresh_interval);
    pair.talk();
    assert_eq!(pair.monitor.seen("migrate-set-capabilities").len(), 1);
    assert!(pair.events().is_empty());

    // Without the capability the end of the migration is only found by asking.
    pair.monitor.migration = "completed";
    pair.monitor.events_refused = false;
    pair.pass(TIMING.refresh_interval);
    pair.talk();
    assert!(matches!(
        &pair.events()[..],
        [Event::Migration {
            status: MigrationStatus::Completed,
            at: Stamp { qemu: None, .. }
        }]
    ));
    pair.pass(TIMING.refresh_interval);
    pair.talk();
    assert!(matches!(
        &pair.events()[..],
        [Event::EventsCapability { on: true }]
    ));
}

#[test]
fn a_barrier_comes_behind_the_events_before_it() {
    let (mut pair, _) = Pair::connected(Monitor {
        migration: "colo",
        ..Monitor::default()
    });
    pair.session.barrier(3, pair.now).unwrap();
    let commands = pair.commands();
    pair.say(&event("STOP", ""));
    let reply = pair.monitor.reply(&commands[0]);
    pair.say(&reply);
    pair.say(&event("MIGRATION", r#"{"status": "completed"}"#));
    pair.monitor.run = "paused";
    let reply = pair.monitor.reply(&commands[1]);
    pair.say(&reply);
    assert!(matches!(
        &pair.events()[..],
        [
            Event::Stop { .. },
            Event::Migration { .. },
            Event::Barrier {
                token: 3,
                run: RunState::Paused,
                migration: MigrationStatus::Completed
            }
        ]
    ));
}

#[test]
fn what_is_asked_without_a_reply_is_bounded() {
    let (mut pair, _) = Pair::connected(Monitor::default());
    let taken = (0..100)
        .take_while(|&token| pair.session.request_checkpoint(token, pair.now).is_ok())
        .count();
    assert_eq!(taken, 16);
    assert_eq!(
        pair.session.barrier(1, pair.now),
        Err(RequestError::TooMany(16))
    );
    assert!(pair.session.output().len() < 4096);
    pair.talk();
    assert_eq!(pair.session.barrier(1, pair.now), Ok(()));
}

#[test]
fn nothing_is_taken_before_the_probe_has_ended() {
    let mut pair = Pair::new(Monitor::default());
    let refused = Err(RequestError::NotConnected);
    assert_eq!(pair.session.request_checkpoint(1, pair.now), refused);
    let greeting = pair.monitor.greeting();
    pair.say(&greeting);
    assert_eq!(pair.session.request_checkpoint(1, pair.now), refused);
    assert_eq!(pair.session.barrier(1, pair.now), refused);
}

#[test]
fn silence_ends_at_its_deadline_and_not_before() {
    let instant = Duration::from_nanos(1);
    let mut pair = Pair::new(Monitor::default());
    assert_eq!(
        pair.session.next_deadline(),
        pair.now + TIMING.reply_timeout
    );
    pair.say("{\"QMP\": ");
    pair.pass(TIMING.reply_timeout - instant);
    assert!(matches!(
        pair.session.tick(pair.now + instant),
        Err(ProtocolError::NoGreeting { .. })
    ));

    let (mut pair, _) = Pair::connected(Monitor::default());
    pair.session.request_checkpoint(4, pair.now).unwrap();
    pair.session.barrier(5, pair.now).unwrap();
    pair.commands();
    pair.events();
    pair.say(r#"{"return": {"#);
    pair.pass(TIMING.reply_timeout - instant);
    assert!(matches!(
        pair.session.tick(pair.now + instant),
        Err(ProtocolError::ReplyTimedOut {
            command: "migrate-set-parameters",
            ..
        })
    ));
    let (left, _) = pair.session.close();
    let left: Vec<_> = left.into();
    assert!(
        matches!(
            &left[..],
            [
                Event::RequestFailed {
                    token: 4,
                    cause: RequestFailure::TimedOut
                },
                Event::BarrierFailed {
                    token: 5,
                    cause: RequestFailure::ConnectionLost
                }
            ]
        ),
        "{left:?}"
    );
}

#[test]
fn a_reply_that_is_not_due_ends_the_session_once_it_is_negotiated() {
    for wrong in [
        r#"{"return": {}, "id": 77}"#,
        r#"{"return": {}}"#,
        r#"{"return": {}, "id": "1"}"#,
        r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#,
    ] {
        let line = format!("{wrong}\r\n");
        let (mut pair, _) = Pair::connected(Monitor::default());
        assert!(matches!(
            pair.session.receive(line.as_bytes(), pair.now),
            Err(ProtocolError::UnexpectedReply { .. })
        ));

        // The client before may have left a reply behind.
        let mut pair = Pair::new(Monitor::default());
        let greeting = pair.monitor.greeting();
        pair.say(&greeting);
        pair.say(&line);
        pair.talk();
        assert!(matches!(&pair.events()[..], [Event::Connected(_)]));
    }
}

#[test]
fn a_reply_to_what_was_not_written_yet_is_not_due() {
    let (mut pair, _) = Pair::connected(Monitor::default());
    pair.session.request_checkpoint(1, pair.now).unwrap();
    let output = pair.session.output().to_vec();
    pair.session.written(output.len() - 1, pair.now);
    let reply = pair.monitor.reply(std::str::from_utf8(&output).unwrap());
    assert!(matches!(
        pair.session.receive(reply.as_bytes(), pair.now),
        Err(ProtocolError::UnexpectedReply { .. })
    ));
}

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

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

#[test]
fn damaged_conversations_end_in_an_error_and_chunks_still_make_no_difference() {
    let seed = match std::env::var("QMP_SEED") {
        Ok(text) => text.parse().expect("QMP_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    println!("replay with QMP_SEED={seed}");
    let mut random = Random(seed);
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
                    let garbage: Vec<u8> =
                        (0..random.below(50)).map(|_| random.next() as u8).collect();
                    stage.splice(at..at, garbage);
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
