//! Commands out of band: when they are enabled, and what they free.

use colo_testkit::qmp::{Monitor, event};
use dpdk_colo::qmp::{Event, ProtocolError, RequestFailure, Yanked};
use serde_json::{Value, json};

use crate::pair::{Pair, TIMING};

fn in_colo() -> Monitor {
    Monitor {
        migration: "colo",
        ..Monitor::default()
    }
}

/// The commands for a lost peer, as they came.
fn loss_commands(monitor: &Monitor) -> Vec<Value> {
    let is_one = |command: &&Value| {
        command["exec-oob"] == "yank"
            || command["execute"] == "yank"
            || command["execute"] == "x-colo-lost-heartbeat"
    };
    let mut all: Vec<Value> = monitor.seen.iter().filter(is_one).cloned().collect();
    for command in &mut all {
        command.as_object_mut().expect("an object").remove("id");
    }
    all
}

#[test]
fn oob_is_enabled_where_it_is_offered_and_nowhere_else() {
    for (oob, arguments) in [(true, json!({"enable": ["oob"]})), (false, Value::Null)] {
        let (pair, probe) = Pair::connected(Monitor { oob, ..in_colo() });
        assert_eq!(probe.colo, Ok(()));
        let seen = pair.monitor.seen("qmp_capabilities");
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0]["arguments"], arguments);
    }
}

#[test]
fn connections_to_the_other_host_are_cut_before_the_failover_command() {
    let (mut pair, _) = Pair::connected(Monitor {
        replicated: true,
        ..in_colo()
    });
    pair.session.fail_over(pair.now).unwrap();
    pair.talk();
    let yank =
        |instance: Value| json!({"exec-oob": "yank", "arguments": {"instances": [instance]}});
    assert_eq!(
        loss_commands(&pair.monitor),
        [
            yank(json!({"type": "migration"})),
            yank(json!({"type": "block-node", "node-name": "nbd0"})),
            json!({"execute": "x-colo-lost-heartbeat"}),
        ]
    );
    assert!(matches!(
        &pair.events()[..],
        [
            Event::Yanked {
                what: Yanked::Migration
            },
            Event::Yanked { what: Yanked::Disk },
            Event::FailOverAccepted,
        ]
    ));
}

#[test]
fn nothing_is_cut_for_any_other_reason() {
    let (mut pair, _) = Pair::connected(Monitor {
        replicated: true,
        ..in_colo()
    });
    pair.session.request_checkpoint(1, pair.now).unwrap();
    pair.session.barrier(2, pair.now).unwrap();
    pair.session.ask_run_state(pair.now).unwrap();
    pair.session.raise_links(pair.now).unwrap();
    pair.talk();
    for line in [
        event("STOP", ""),
        event("COLO_EXIT", r#"{"mode": "primary", "reason": "error"}"#),
        event("MIGRATION", r#"{"status": "failed"}"#),
    ] {
        pair.say(&line);
        pair.talk();
    }
    for _ in 0..10 {
        pair.pass(TIMING.refresh_interval);
        pair.talk();
    }
    pair.monitor.hung = true;
    pair.pass(TIMING.refresh_interval);
    pair.talk();
    pair.pass(TIMING.reply_timeout);
    pair.talk();
    assert_eq!(loss_commands(&pair.monitor), [] as [Value; 0]);
}

#[test]
fn without_oob_or_yank_qemu_gets_the_failover_command_alone() {
    for (oob, yanks) in [(false, true), (true, false)] {
        let (mut pair, _) = Pair::connected(Monitor {
            oob,
            yanks,
            ..in_colo()
        });
        pair.session.fail_over(pair.now).unwrap();
        pair.talk();
        assert_eq!(
            loss_commands(&pair.monitor),
            [json!({"execute": "x-colo-lost-heartbeat"})]
        );
        assert!(matches!(&pair.events()[..], [Event::FailOverAccepted]));
    }
}

#[test]
fn a_refused_yank_changes_nothing() {
    let (mut pair, _) = Pair::connected(Monitor {
        yank_refused: true,
        ..in_colo()
    });
    pair.session.fail_over(pair.now).unwrap();
    pair.talk();
    match &pair.events()[..] {
        [
            Event::YankFailed {
                what: Yanked::Migration,
                cause: RequestFailure::Refused(error),
            },
            Event::FailOverAccepted,
        ] => assert!(error.to_string().contains("Instance not found"), "{error}"),
        events => panic!("{events:?}"),
    }
}

#[test]
fn a_monitor_that_hangs_has_room_for_what_frees_it() {
    let (mut pair, _) = Pair::connected(in_colo());
    pair.monitor.hung = true;
    for token in 0..15 {
        pair.session.request_checkpoint(token, pair.now).unwrap();
        pair.talk();
    }
    assert_eq!(pair.monitor.most_waiting, 7);
    pair.session.fail_over(pair.now).unwrap();
    pair.talk();
    assert_eq!(pair.monitor.most_waiting, 7);
    assert_eq!(pair.monitor.seen("migrate-set-parameters").len(), 15);
    let events = pair.events();
    let accepted = |event: &&Event| matches!(event, Event::RequestAccepted { .. });
    assert_eq!(events.iter().filter(accepted).count(), 15);
    assert!(matches!(events.last(), Some(Event::FailOverAccepted)));
}

#[test]
fn a_late_reply_does_not_end_the_session_that_can_free_qemu() {
    let (mut pair, _) = Pair::connected(in_colo());
    pair.monitor.hung = true;
    pair.session.request_checkpoint(1, pair.now).unwrap();
    pair.talk();
    pair.events();
    for _ in 0..6 {
        pair.pass(TIMING.reply_timeout);
        pair.talk();
        assert!(matches!(
            &pair.events()[..],
            [Event::Late {
                command: "migrate-set-parameters",
                ..
            }]
        ));
    }
    pair.session.fail_over(pair.now).unwrap();
    pair.talk();
    assert!(matches!(
        &pair.events()[..],
        [
            Event::Yanked {
                what: Yanked::Migration
            },
            Event::RequestAccepted { token: 1, .. },
            Event::FailOverAccepted,
        ]
    ));
}

#[test]
fn a_monitor_that_is_silent_out_of_band_is_given_up() {
    let (mut pair, _) = Pair::connected(in_colo());
    pair.session.request_checkpoint(1, pair.now).unwrap();
    pair.commands();
    pair.pass(TIMING.reply_timeout);
    pair.commands();
    pair.now += TIMING.reply_timeout;
    assert!(matches!(
        pair.session.tick(pair.now),
        Err(ProtocolError::ReplyTimedOut {
            command: "query-yank",
            ..
        })
    ));
    let (left, _) = pair.session.close();
    assert!(left.iter().any(|event| matches!(
        event,
        Event::RequestFailed {
            token: 1,
            cause: RequestFailure::ConnectionLost
        }
    )));
}
