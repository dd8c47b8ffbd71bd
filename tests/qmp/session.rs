//! The session without I/O: what comes out for what goes in.

use std::time::Duration;

use colo_testkit::qmp::{Monitor, event};
use dpdk_colo::qmp::{
    ColoExitReason, ColoMode, Event, MigrationStatus, NoColo, Probe, ProtocolError, RequestError,
    RequestFailure, RunState, Stamp, Version,
};

use crate::pair::{Pair, TIMING};

#[test]
fn the_probe_reports_what_the_monitor_said() {
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
fn the_reason_of_a_stop_comes_in_its_place_among_the_events() {
    for (run, want) in [
        ("colo", RunState::Colo),
        ("paused", RunState::Paused),
        ("running", RunState::Running),
    ] {
        let (mut pair, _) = Pair::connected(Monitor {
            migration: "colo",
            ..Monitor::default()
        });
        pair.say(&event("STOP", ""));
        pair.session.ask_run_state(pair.now).unwrap();
        pair.monitor.run = run;
        pair.talk();
        pair.say(&event("RESUME", ""));
        match &pair.events()[..] {
            [
                Event::Stop { .. },
                Event::RunState(found),
                Event::Resume { .. },
            ] => {
                assert_eq!(*found, want);
            }
            events => panic!("{events:?}"),
        }
    }
}

#[test]
fn a_migration_that_is_failing_is_no_protocol_error() {
    let (mut pair, _) = Pair::connected(Monitor::default());
    pair.say(&event("MIGRATION", r#"{"status": "failing"}"#));
    match &pair.events()[..] {
        [Event::Migration { status, .. }] => assert_eq!(*status, MigrationStatus::Failing),
        events => panic!("{events:?}"),
    }
}

#[test]
fn a_checkpoint_s_steps_come_as_events() {
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

    let (mut pair, _) = Pair::connected(Monitor {
        yanks: false,
        ..Monitor::default()
    });
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
