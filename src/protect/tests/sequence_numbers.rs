//! A survivor goes on in the numbers that its clients know (rule R5).

use super::survivor::{again, numbers, say, segment};
use super::*;

#[test]
fn the_svm_speaks_for_itself_in_the_numbers_that_its_client_knows() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    assert_eq!(pair.released().len(), 1);
    pair.secondary_fails_over();
    let now = pair.now;
    let mut successor = pair.take_over();
    // The guest's SYN again, its data, and what the client answers.
    let again = say(&mut successor, syn(5_000), now);
    assert_eq!(numbers(&again).0, 100);
    let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
    assert_eq!(numbers(&data), (101, 7));
    let mut answer = segment(false, 7, 102, b"y");
    assert!(successor.input(&mut answer, now));
    assert_eq!(numbers(&answer), (7, 5_002));
    // Another connection of the same ports has numbers of its own.
    let other = say(&mut successor, syn(900_000), now);
    assert_eq!(numbers(&other).0, 900_000);
    let data = say(&mut successor, segment(true, 900_001, 7, b"x"), now);
    assert_eq!(numbers(&data), (900_001, 7));
}

#[test]
fn a_last_load_without_an_epoch_has_no_offset() {
    for reported in [false, true] {
        let mut pair = Pair::protected();
        pair.output(syn(100));
        pair.svm(syn(5_000));
        pair.released();
        pair.exchange();
        pair.released();
        // A checkpoint whose end the primary did not live to tell.
        pair.secondary.guest_stopped(0);
        if reported {
            pair.secondary.monitor(QemuEvent::Stop);
            pair.secondary.monitor(QemuEvent::Resume);
        }
        pair.secondary.guest_stopped(0);
        for event in [
            QemuEvent::Stop,
            QemuEvent::Migration(Migration::Completed),
            QemuEvent::Resume,
            QemuEvent::Barrier {
                stops: 2,
                migration: Migration::Completed,
                running: true,
            },
        ] {
            pair.secondary.monitor(event);
        }
        let now = pair.now;
        let mut successor = pair.take_over();
        let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
        // A checkpoint that loaded nothing leaves the offset as it was.
        assert_eq!(numbers(&data).0, if reported { 5_001 } else { 101 });
    }
}

#[test]
fn a_takeover_that_the_monitor_does_not_see_is_no_load() {
    // What the monitor still says of the takeover, and the state of the VM when it answers again: it has not left its
    // stop, or it runs by then.
    let cases = [(0, false), (0, true), (1, true), (1, false)];
    for (loads, running, says) in cases
        .map(|(loads, running)| (loads, running, false))
        .into_iter()
        .chain([(0, true, true)])
    {
        let mut pair = Pair::protected();
        pair.output(syn(100));
        pair.svm(syn(5_000));
        pair.released();
        pair.exchange();
        pair.released();
        let secondary = &mut pair.secondary;
        if says {
            secondary.monitor(QemuEvent::Migration(Migration::Completed));
        }
        secondary.monitor(QemuEvent::Disconnected);
        let mut stops = 0;
        for _ in 0..loads {
            stops += 1;
            secondary.guest_stopped(0);
            secondary.monitor(QemuEvent::StartedWithoutMonitor { stops });
        }
        stops += 1;
        secondary.guest_stopped(0);
        let migration = match running {
            true => {
                secondary.monitor(QemuEvent::StartedWithoutMonitor { stops });
                Migration::Completed
            }
            false => Migration::Colo,
        };
        secondary.monitor(QemuEvent::Connected {
            migration,
            running,
            leads: false,
        });
        if !running {
            secondary.monitor(QemuEvent::Migration(Migration::Completed));
            secondary.monitor(QemuEvent::Resume);
        }
        secondary.monitor(QemuEvent::Barrier {
            stops,
            migration: Migration::Completed,
            running: true,
        });
        let now = pair.now;
        let mut successor = pair.take_over();
        let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
        let expected = if loads > 0 { 5_001 } else { 101 };
        assert_eq!(numbers(&data).0, expected, "{loads} loads, {running}");
    }
}

#[test]
fn a_ring_that_was_found_to_run_as_its_monitor_went_has_loaded_nothing_more() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.released();
    let secondary = &mut pair.secondary;
    // The question what its ring runs for was under way.
    secondary.monitor(QemuEvent::Disconnected);
    secondary.monitor(QemuEvent::StartedWithoutMonitor { stops: 0 });
    secondary.guest_stopped(0);
    secondary.monitor(QemuEvent::StartedWithoutMonitor { stops: 1 });
    secondary.monitor(QemuEvent::Connected {
        migration: Migration::Completed,
        running: true,
        leads: false,
    });
    let now = pair.now;
    let mut successor = pair.take_over();
    let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
    assert_eq!(numbers(&data).0, 101);
}

#[test]
fn a_load_that_the_monitor_tells_late_voids_no_offset() {
    let mut pair = Pair::new().forwards();
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.resume();
    // The link is faster than the SVM's monitor.
    pair.exchange();
    pair.secondary_started(0, true);
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.released();
    pair.secondary_fails_over();
    let now = pair.now;
    let mut successor = pair.take_over();
    let data = say(&mut successor, segment(true, 5_001, 7, b"x"), now);
    assert_eq!(numbers(&data), (101, 7));
}

#[test]
fn nothing_overtakes_a_frame_that_opens_its_connection() {
    let mut pair = Pair::protected();
    pair.cut = true;
    pair.output(syn(100));
    pair.svm(syn(5_000));
    assert!(pair.released().is_empty(), "the secondary has not heard");
    pair.output(segment(true, 101, 7, b"x"));
    pair.svm(segment(true, 101, 7, b"x"));
    // The protection is in doubt before the data has left.
    pair.primary.input_missed(1, pair.now);
    assert!(pair.released().is_empty());
    pair.now += TIMING.silence;
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released().len(), 2);
}

#[test]
fn a_survivor_is_protected_again_and_so_are_its_old_connections() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.released();
    pair.secondary_fails_over();
    let now = pair.now + TIMING.silence;
    let successor = pair.take_over();
    let mut pair = Pair {
        primary: successor,
        secondary: Secondary::new(setup(20), now),
        cut: false,
        stops: 1,
        now,
    };
    for _ in 0..8 {
        pair.exchange();
        pair.now += TIMING.heartbeat;
    }
    assert_eq!(pair.primary.state(), State::Pairing);
    // Both VMs have the numbers of the first secondary.
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    for _ in 0..8 {
        pair.exchange();
    }
    assert_eq!(pair.primary.state(), State::Protected);
    assert_eq!(pair.secondary.state(), State::Protected);
    let data = || segment(true, 5_001, 7, b"x");
    pair.output(data());
    assert!(pair.primary.next_release().is_none());
    pair.svm(data());
    let release = pair.primary.next_release().expect("equal");
    assert_eq!(numbers(&release.frame), (101, 7));
    // The second takeover, too.
    pair.secondary_fails_over();
    let now = pair.now;
    let mut successor = pair.take_over();
    assert_eq!(again(&mut successor), [(101, 7)]);
    let data = say(&mut successor, data(), now);
    assert_eq!(numbers(&data), (101, 7));
}
