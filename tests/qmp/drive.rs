//! Drives a client against a monitor.

use std::time::{Duration, Instant};

use dpdk_colo::qmp::{Client, Event, Options};
use rustix::event::Timespec;

/// Short times, but a wait for replies that holds on a busy machine.
pub fn options() -> Options {
    Options {
        reply_timeout: Duration::from_secs(10),
        refresh_interval: Duration::from_millis(100),
        reconnect_min: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(80),
    }
}

/// Waits for the client as its contract says, collecting events until one is `last`.
pub fn until(client: &mut Client, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let (events, found) = run(client, Duration::from_secs(20), last);
    assert!(found, "the event did not come; got {events:#?}");
    events
}

/// Collects events for some time.
pub fn during(client: &mut Client, time: Duration) -> Vec<Event> {
    run(client, time, |_| false).0
}

fn run(client: &mut Client, time: Duration, last: impl Fn(&Event) -> bool) -> (Vec<Event>, bool) {
    let end = Instant::now() + time;
    let mut events = Vec::new();
    loop {
        let now = Instant::now();
        let polled = client.poll(now);
        assert!(now.elapsed() < Duration::from_secs(1), "a poll has blocked");
        if let Some(event) = polled {
            let found = last(&event);
            events.push(event);
            if found {
                return (events, true);
            }
            continue;
        }
        if now >= end {
            return (events, false);
        }
        wait(client, end);
    }
}

fn wait(client: &Client, end: Instant) {
    let now = Instant::now();
    let time = client
        .next_deadline(now)
        .min(end)
        .saturating_duration_since(now);
    let time = Timespec::try_from(time).expect("a short time");
    let mut polled: Vec<_> = client.poll_fd().into_iter().collect();
    rustix::event::poll(&mut polled, Some(&time)).expect("poll(2)");
}
