//! Replies for a reader.

use std::fmt::Write as _;

use serde_json::Value;

use crate::args::Task;

/// The text of a reply.
pub fn text(task: &Task, reply: &Value) -> String {
    let mut text = String::new();
    match task {
        Task::Status { .. } | Task::Wait { .. } => {
            for pair in reply["pairs"].as_array().into_iter().flatten() {
                // Writing to a string cannot fail.
                let _ = write_pair(&mut text, pair);
            }
        }
        Task::Pair { .. } => {
            for pair in reply["pairs"].as_array().into_iter().flatten() {
                let _ = write_made_of(&mut text, pair);
            }
        }
        Task::Policy { .. } => {
            for (pair, rules) in reply["pairs"].as_object().into_iter().flatten() {
                let _ = write_policy(&mut text, pair, rules);
            }
        }
        Task::Why { .. } => {
            for pair in reply["pairs"].as_array().into_iter().flatten() {
                let _ = crate::why::write_pair(&mut text, pair);
            }
        }
        Task::Set { name, value, .. } => {
            let _ = writeln!(text, "{name} is {value} now");
        }
        _ => {
            for (pair, outcome) in reply["pairs"].as_object().into_iter().flatten() {
                let _ = writeln!(text, "pair {pair}: {}", done(task, outcome));
            }
        }
    }
    text
}

fn done(task: &Task, outcome: &Value) -> String {
    let ms = |key: &str| match outcome[key].as_f64() {
        Some(ms) => format!("{ms:.1} ms"),
        None => "an unknown time".to_owned(),
    };
    match task {
        Task::Protect { .. } => protected(outcome),
        Task::Checkpoint { .. } => format!(
            "checkpoint committed; STOP {} after the request, RESUME {} later",
            ms("stop_ms"),
            ms("pause_ms")
        ),
        Task::Capture { .. } => captured(outcome),
        Task::Stats { .. } => format!(
            "status counts from now on; before: requested {}, committed {}, losses of the peer {}",
            outcome["requested"], outcome["committed"], outcome["losses"]
        ),
        Task::Switchover { .. } => match outcome["qemu_ended"].as_bool() {
            Some(true) => "the other VM leads, and this node's QEMU has ended; start it anew, waiting for a migration, and \
                           this node as the secondary"
                .to_owned(),
            _ => "the other VM leads; this node's QEMU has NOT ended, end it".to_owned(),
        },
        Task::Unprotect { .. } => match outcome["qemu_ended"].as_bool() {
            Some(true) => "the VM goes on alone, and the other node's QEMU has ended; start that anew, waiting for a \
                           migration, to protect the VM again"
                .to_owned(),
            _ => "the VM goes on alone; the other node's QEMU was NOT heard to end, end it".to_owned(),
        },
        Task::Failover { .. } => "QEMU has accepted x-colo-lost-heartbeat".to_owned(),
        _ => "the peer knows of the restart; end this node and start it again".to_owned(),
    }
}

fn captured(outcome: &Value) -> String {
    let path = outcome["path"].as_str().unwrap_or_default();
    if outcome["limit_mib"].is_u64() {
        return format!("capturing to {path}, {} MiB at most", outcome["limit_mib"]);
    }
    let mut text = format!(
        "{} frames, {} bytes in {path}; {} records lost",
        outcome["frames"], outcome["bytes"], outcome["lost"]
    );
    if outcome["full"] == true {
        text.push_str("; it had reached its bound");
    }
    if let Some(fault) = outcome["fault"].as_str() {
        let _ = write!(text, "; the disk has failed: {fault}");
    }
    text
}

fn protected(outcome: &Value) -> String {
    let names = |key: &str| {
        let all = outcome[key].as_array().into_iter().flatten();
        let all: Vec<&str> = all.filter_map(Value::as_str).collect();
        all.join(", ")
    };
    let seconds = outcome["ms"].as_f64().unwrap_or_default() / 1e3;
    let mut text = format!("protected after {seconds:.1} s");
    let (disks, others) = (names("disks"), names("not_replicated"));
    if !disks.is_empty() {
        let _ = write!(text, "; replicated disks: {disks}");
    }
    if !others.is_empty() {
        let _ = write!(text, "; NOT replicated: {others}");
    }
    text
}

/// How far an ordered protection of a pair is, by its status; `None`: none is under way.
pub fn progress(pair: &Value) -> Option<String> {
    let protect = &pair["protect"];
    let step = match protect["step"].as_str()? {
        "looks" => "looking at QEMU",
        "prepares" => "making the other node's QEMU ready",
        "copies_disks" => "copying disks",
        "moves_state" => "copying memory",
        "settles" => "waiting for both nodes",
        "undoes" => "changing all back",
        other => other,
    };
    let (done, total) = (protect["done"].as_u64()?, protect["total"].as_u64()?);
    if total == 0 {
        return Some(step.to_owned());
    }
    let width = 30;
    let full = (done.min(total) as f64 / total as f64 * f64::from(width)) as usize;
    let mib = |bytes: u64| bytes >> 20;
    Some(format!(
        "{step} [{}{}] {} of {} MiB",
        "#".repeat(full),
        ".".repeat(width as usize - full),
        mib(done),
        mib(total)
    ))
}

/// What a pair is made of.
fn write_made_of(text: &mut String, pair: &Value) -> std::fmt::Result {
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    writeln!(
        text,
        "pair {}: began as {}, is {}, {}",
        word(&pair["name"]),
        word(&pair["role"]),
        word(&pair["role_now"]),
        word(&pair["state"])
    )?;
    let mut line = |name: &str, what: String| writeln!(text, "  {name:<11} {what}");
    for port in pair["ports"].as_array().into_iter().flatten() {
        let mut what = format!("{}, {}", word(&port["name"]), word(&port["driver"]));
        for (key, before) in [("interface", "on "), ("socket", ""), ("mtu", "MTU ")] {
            if !port[key].is_null() {
                let _ = write!(what, ", {before}{}", word(&port[key]));
            }
        }
        line(&word(&port["place"]), what)?;
    }
    if let Some(qmp) = pair["qmp"].as_str() {
        line("monitor", qmp.to_owned())?;
    }
    let lcores = pair["lcores"].as_array().into_iter().flatten();
    let lcores: Vec<String> = lcores.map(word).collect();
    line("lcores", lcores.join(", "))?;
    line(
        "settings",
        format!(
            "vm-id {}, compare-timeout {} ms, hold-frames {}, flows {}, failover {}, on-peer-lost {}",
            pair["vm_id"],
            pair["compare_timeout_ms"],
            pair["hold_frames"],
            pair["flows"],
            word(&pair["failover"]),
            word(&pair["on_peer_lost"])
        ),
    )
}

/// The rules of a pair.
fn write_policy(text: &mut String, pair: &str, rules: &Value) -> std::fmt::Result {
    writeln!(text, "pair {pair}:")?;
    for rule in rules.as_array().into_iter().flatten() {
        let mut what = match rule["default"].as_bool() {
            Some(true) => "default rule".to_owned(),
            _ => rule["protocol"].as_str().unwrap_or_default().to_owned(),
        };
        for key in ["port", "prefix", "vlan"] {
            match &rule[key] {
                Value::Null => {}
                Value::String(value) => write!(what, ", {key} {value}")?,
                value => write!(what, ", {key} {value}")?,
            }
        }
        let name = rule["name"].as_str().unwrap_or_default();
        writeln!(text, "  {name:<20} {what}; {} frames", rule["frames"])?;
    }
    Ok(())
}

fn write_pair(text: &mut String, pair: &Value) -> std::fmt::Result {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let taken_over = match pair["taken_over"].as_bool() {
        Some(true) => " (has taken over)",
        _ => "",
    };
    writeln!(
        text,
        "pair {}: {}{taken_over}, {} for {}, epoch {}",
        word(&pair["name"]),
        word(&pair["role"]),
        word(&pair["state"]),
        age(&pair["since_s"]),
        word(&pair["epoch"])
    )?;
    let mut line = |name: &str, what: String| writeln!(text, "  {name:<11} {what}");
    line("why", word(&pair["why"]))?;
    if let Some(todo) = pair["todo"].as_str() {
        line("to do", todo.to_owned())?;
    }
    if pair["role"] == "secondary"
        && let Some(promotable) = pair["promotable"].as_bool()
    {
        let answer = if promotable { "yes" } else { "no" };
        line(
            "promotable",
            format!("{answer}: {}", word(&pair["promotable_why"])),
        )?;
    }
    for order in pair["orders"].as_array().into_iter().flatten() {
        let late = match order["timed_out"].as_bool() {
            Some(true) => "; nobody waits for it any more",
            _ => "",
        };
        let by = &order["by"];
        line(
            "order",
            format!(
                "{} waits for {} for {}, given by uid {}, pid {}{late}",
                word(&order["order"]),
                word(&order["waits_for"]),
                age(&order["since_s"]),
                by["uid"],
                by["pid"]
            ),
        )?;
    }
    let monitor = &pair["monitor"];
    if monitor.is_object() {
        let qemu = monitor["qemu"].as_str().unwrap_or("of unknown version");
        let mut what = format!(
            "{}, QEMU {qemu} at {}, migration {}",
            word(&monitor["state"]),
            word(&monitor["address"]),
            word(&monitor["migration"])
        );
        if let Some(owed) = monitor["waits_for"].as_str() {
            let _ = write!(what, "; owes {owed} for {} ms", word(&monitor["waits_ms"]));
        }
        line("monitor", what)?;
    }
    if let Some(runs) = pair["ring"]["runs"].as_bool() {
        let what = match runs {
            true => "runs",
            false => "stands: the guest does not use its port",
        };
        line("ring", what.to_owned())?;
    }
    let (link, peer) = (&pair["link"], &pair["peer"]);
    if link.is_object() {
        let sealed = match link["sealed"].as_bool() {
            Some(true) => "sealed",
            _ => "trusted, without a key",
        };
        let sessions = word(&link["sessions"]);
        line(
            "link",
            format!("{}, {sealed}, sessions: {sessions}", word(&link["port"])),
        )?;
    }
    if let Some(heard) = peer["heard"].as_bool() {
        let silence = word(&peer["silence_ms"]);
        let what = match (heard, peer["certainly_lost"].as_bool()) {
            (true, _) if peer["ceded"] == true => {
                format!("has ceded its lead, heard {silence} ms ago")
            }
            (true, _) => format!("heard {silence} ms ago"),
            (false, Some(true)) => format!("certainly lost, silent for {silence} ms"),
            (false, _) => format!("silent for {silence} ms"),
        };
        let bound = word(&peer["lost_after_ms"]);
        let losses = word(&peer["losses"]);
        line(
            "peer",
            format!("{what} (lost after {bound} ms), losses: {losses}"),
        )?;
    }
    let checkpoints = &pair["checkpoints"];
    let last = &checkpoints["last"];
    let last = match last.is_object() {
        false => "none seen".to_owned(),
        true => format!(
            "last: {} {} ago, pause {:.1} ms",
            word(&last["reason"]),
            age(&last["ago_s"]),
            last["pause_ms"].as_f64().unwrap_or_default()
        ),
    };
    let (requested, committed) = (&checkpoints["requested"], &checkpoints["committed"]);
    line(
        "checkpoints",
        format!("{last}; requested {requested}, committed {committed}"),
    )?;
    if pair["reset_s"].is_number() {
        let since = age(&pair["reset_s"]);
        line("counts", format!("of the last {since}, since stats reset"))?;
    }
    if let Some(what) = progress(pair) {
        line("protect", what)?;
    }
    let held = &pair["held"];
    line(
        "held",
        format!(
            "{} frames, most {}, limit {}",
            held["frames"], held["most"], held["limit"]
        ),
    )?;
    let parameters = &pair["parameters"];
    let mut what = format!("compare-timeout {} ms", parameters["compare_timeout_ms"]);
    let failover = &parameters["failover"];
    if failover.is_object() {
        let _ = write!(
            what,
            ", failover {}, on-peer-lost {}",
            word(&failover["mode"]),
            word(&failover["on_peer_lost"])
        );
    }
    line("parameters", what)
}

/// A time for a reader.
pub fn age(seconds: &Value) -> String {
    let seconds = seconds.as_f64().unwrap_or_default();
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_protection_shows_how_far_it_is() {
        let at = |step: &str, done: u64, total: u64| {
            progress(&json!({"protect": {"step": step, "done": done << 20, "total": total << 20}}))
        };
        let bar = "copying memory [###############...............] 96 of 192 MiB";
        assert_eq!(at("moves_state", 96, 192).as_deref(), Some(bar));
        assert_eq!(
            at("prepares", 0, 0).as_deref(),
            Some("making the other node's QEMU ready")
        );
        assert_eq!(progress(&json!({"protect": null})), None);
        let reply = json!({"pairs": {"a": {
            "protected": true, "ms": 2_345, "disks": ["d"], "not_replicated": ["cd"],
        }}});
        assert_eq!(
            text(
                &Task::Protect {
                    pair: None,
                    bare: None
                },
                &reply
            ),
            "pair a: protected after 2.3 s; replicated disks: d; NOT replicated: cd\n"
        );
    }

    #[test]
    fn rules_and_parts_of_pairs_have_a_line_each() {
        let policy = Task::Policy {
            act: crate::args::PolicyAct::List { pair: None },
        };
        let reply = json!({"pairs": {"a": [
            {"name": "arp", "default": true, "frames": 3},
            {"name": "ntp", "default": false, "protocol": "udp", "port": 123, "prefix": "10.0.0.0/8", "vlan": null,
                "frames": 0},
        ]}});
        assert_eq!(
            text(&policy, &reply),
            "pair a:\n  arp                  default rule; 3 frames\n\
             \x20 ntp                  udp, port 123, prefix 10.0.0.0/8; 0 frames\n"
        );
        let show = Task::Pair {
            act: crate::args::PairAct::Show { pair: None },
        };
        let reply = json!({"pairs": [{
            "name": "a", "role": "secondary", "role_now": "primary", "state": "solo", "qmp": "/q", "lcores": [1, 3],
            "vm_id": 7, "compare_timeout_ms": 3000, "hold_frames": 16384, "flows": 65536, "failover": "manual",
            "on_peer_lost": "hold",
            "ports": [{"place": "guest", "name": "net_vhost0", "driver": "net_vhost", "socket": "/g", "mtu": 1500}],
        }]});
        assert_eq!(
            text(&show, &reply),
            "pair a: began as secondary, is primary, solo\n\
             \x20 guest       net_vhost0, net_vhost, /g, MTU 1500\n\
             \x20 monitor     /q\n\
             \x20 lcores      1, 3\n\
             \x20 settings    vm-id 7, compare-timeout 3000 ms, hold-frames 16384, flows 65536, failover manual, \
             on-peer-lost hold\n"
        );
        let stop = Task::Capture {
            act: crate::args::CaptureAct::Stop { pair: None },
        };
        let reply = json!({"pairs": {"a": {"path": "/d/x.pcapng", "frames": 4, "bytes": 900, "lost": 0, "full": true,
            "fault": null}}});
        assert_eq!(
            text(&stop, &reply),
            "pair a: 4 frames, 900 bytes in /d/x.pcapng; 0 records lost; it had reached its bound\n"
        );
        let reply = json!({"pairs": {"a": {"path": "/d/x.pcapng", "limit_mib": 64}}});
        assert_eq!(
            text(&stop, &reply),
            "pair a: capturing to /d/x.pcapng, 64 MiB at most\n"
        );
        let reset = Task::Stats {
            act: crate::args::StatsAct::Reset { pair: None },
        };
        let reply = json!({"pairs": {"a": {"requested": 4, "committed": 3, "losses": 1}}});
        assert_eq!(
            text(&reset, &reply),
            "pair a: status counts from now on; before: requested 4, committed 3, losses of the peer 1\n"
        );
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (59.96, "60.0 s"),
            (61.0, "1 min 1 s"),
            (7_260.0, "2 h 1 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(age(&json!(seconds)), text);
        }
    }

    #[test]
    fn a_pair_has_its_state_first_and_what_is_missing_leaves_no_line() {
        let status = Task::Status { pair: None };
        let reply = json!({"pairs": [{
            "name": "vm0", "role": "compare", "taken_over": false, "state": "solo", "since_s": 2.0, "epoch": 0,
            "why": "because", "todo": null, "monitor": null, "ring": null, "link": null, "peer": null,
            "checkpoints": {"requested": 0, "committed": 0, "last": null},
            "held": {"frames": 1, "most": 2, "limit": 3}, "parameters": {"compare_timeout_ms": 3000, "failover": null},
        }]});
        assert_eq!(
            text(&status, &reply),
            "pair vm0: compare, solo for 2.0 s, epoch 0\n\
             \x20 why         because\n\
             \x20 checkpoints none seen; requested 0, committed 0\n\
             \x20 held        1 frames, most 2, limit 3\n\
             \x20 parameters  compare-timeout 3000 ms\n"
        );
    }

    #[test]
    fn a_pair_with_a_peer_shows_what_an_operator_looks_for() {
        let status = Task::Status { pair: None };
        let reply = |heard: bool| {
            json!({"pairs": [{
                "name": "vm0", "role": "primary", "taken_over": true, "state": "peer_lost", "since_s": 61.0, "epoch": 9,
                "why": "because", "todo": "this",
                "monitor": {"state": "unresponsive", "address": "/q", "qemu": "7.2.22", "migration": "colo",
                    "waits_for": "STOP", "waits_ms": 1200},
                "ring": {"runs": true}, "link": {"port": "l0", "sealed": false, "sessions": 2},
                "peer": {"heard": heard, "silence_ms": 612, "lost_after_ms": 500, "losses": 1},
                "checkpoints": {"requested": 1, "committed": 2,
                    "last": {"reason": "ordered", "ago_s": 3.0, "stop_ms": 1.0, "pause_ms": 20.26}},
                "held": {"frames": 1, "most": 2, "limit": 3},
                "parameters": {"compare_timeout_ms": 3000, "failover": {"mode": "auto", "on_peer_lost": "hold"}},
            }]})
        };
        let lost = text(&status, &reply(false));
        for line in [
            "pair vm0: primary (has taken over), peer_lost for 1 min 1 s, epoch 9",
            "  to do       this",
            "  monitor     unresponsive, QEMU 7.2.22 at /q, migration colo; owes STOP for 1200 ms",
            "  ring        runs",
            "  link        l0, trusted, without a key, sessions: 2",
            "  peer        silent for 612 ms (lost after 500 ms), losses: 1",
            "  checkpoints last: ordered 3.0 s ago, pause 20.3 ms; requested 1, committed 2",
            "  parameters  compare-timeout 3000 ms, failover auto, on-peer-lost hold",
        ] {
            assert!(
                lost.lines().any(|it| it == line),
                "{line:?} is not in\n{lost}"
            );
        }
        assert!(text(&status, &reply(true)).contains("heard 612 ms ago (lost after"));
    }

    #[test]
    fn a_secondary_shows_whether_it_may_be_promoted_and_an_order_what_it_waits_for() {
        let status = Task::Status { pair: None };
        let reply = json!({"pairs": [{
            "name": "vm0", "role": "secondary", "state": "peer_lost", "since_s": 2.0, "epoch": 4, "why": "because",
            "promotable": true, "promotable_why": "a state is loaded",
            "orders": [{"order": "failover", "waits_for": "QEMU", "since_s": 50.0, "timed_out": true,
                "by": {"uid": 7, "pid": 9}}],
            "peer": {"heard": false, "silence_ms": 700, "lost_after_ms": 500, "losses": 1, "certainly_lost": true},
            "checkpoints": {}, "held": {}, "parameters": {},
        }]});
        let shown = text(&status, &reply);
        for line in [
            "  promotable  yes: a state is loaded",
            "  order       failover waits for QEMU for 50.0 s, given by uid 7, pid 9; nobody waits for it any more",
            "  peer        certainly lost, silent for 700 ms (lost after 500 ms), losses: 1",
        ] {
            assert!(
                shown.lines().any(|it| it == line),
                "{line:?} is not in\n{shown}"
            );
        }
    }
}
