//! The account of a pair's checkpoints for a reader.

use std::fmt::{Result, Write as _};

use serde_json::Value;

use crate::show::age;

/// Ports and flows that are shown; `--json` has more.
const SHOWN: usize = 10;

/// Writes the account of one pair.
pub fn write_pair(text: &mut String, pair: &Value) -> Result {
    let name = pair["name"].as_str().unwrap_or_default();
    let account = &pair["account"];
    if !account.is_object() {
        let role = pair["role"].as_str().unwrap_or_default();
        return writeln!(
            text,
            "pair {name}: its role is {role}; ask at the node whose VM leads"
        );
    }
    let all = &account["all"];
    let over = age(&account["over_s"]);
    if all["checkpoints"] == 0 {
        return writeln!(text, "pair {name}: no checkpoint in {over}");
    }
    let share = number(&all["stopped_ms_per_hour"]) / 36_000.0;
    writeln!(
        text,
        "pair {name}: {} checkpoints in {over} stopped the guest for {:.1} ms: {:.0} guest-ms/h, {share:.2} % of the time",
        all["checkpoints"],
        number(&all["stopped_ms"]),
        number(&all["stopped_ms_per_hour"]),
    )?;
    let mut table = |of: &str, rows: &[Row<'_>]| -> Result {
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "\n  guest-ms/h  checkpoints  stopped ms   waited ms     held  {of}"
        )?;
        let mut before: Option<&Value> = None;
        for row in rows {
            let cost = row.cost;
            writeln!(
                text,
                "  {:>10.0}  {:>11}  {:>10.1}  {:>10.1}  {:>7}  {}",
                number(&cost["stopped_ms_per_hour"]),
                number(&cost["checkpoints"]),
                number(&cost["stopped_ms"]),
                number(&cost["waited_ms"]),
                number(&cost["held_frames"]),
                row.what
            )?;
            let helps = &cost["help"];
            // The same sentences once for rows that follow each other.
            if before.replace(helps) != Some(helps) {
                for help in helps.as_array().into_iter().flatten() {
                    let word = |key: &str| help[key].as_str().unwrap_or_default().to_owned();
                    writeln!(text, "              {}: {}", word("what"), word("how"))?;
                }
            }
        }
        Ok(())
    };
    let (ports, flows) = (&account["ports"], &account["flows"]);
    table(
        "reason",
        &rows(&account["reasons"], |row| word(&row["reason"])),
    )?;
    let mut of_ports = rows(&ports["listed"], port);
    of_ports.truncate(SHOWN);
    of_ports.extend(rest("of no flow", &ports["none"]));
    table("port", &of_ports)?;
    let mut of_flows = rows(&flows["listed"], |row| {
        format!("{}, mostly {}", word(&row["flow"]), word(&row["reason"]))
    });
    of_flows.truncate(SHOWN);
    table("flow", &of_flows)?;
    for (what, listed, other) in [
        ("ports", &ports["listed"], &ports["other"]),
        ("flows", &flows["listed"], &flows["other"]),
    ] {
        let listed = listed.as_array().map_or(&[][..], Vec::as_slice);
        let hidden: f64 = listed.iter().skip(SHOWN).map(stopped).sum();
        let hidden = hidden + stopped(other);
        if hidden > 0.0 {
            writeln!(
                text,
                "\n  other {what}: {hidden:.1} ms (--json lists a hundred)"
            )?;
        }
    }
    let error = number(&flows["error_ms"]);
    if error > 0.0 {
        writeln!(
            text,
            "\n  a flow may have cost {error:.1} ms more than is shown: there were more than have a place"
        )?;
    }
    Ok(())
}

/// A line of a table.
struct Row<'a> {
    cost: &'a Value,
    what: String,
}

fn rows(list: &Value, what: impl Fn(&Value) -> String) -> Vec<Row<'_>> {
    let rows = list.as_array().into_iter().flatten();
    rows.map(|cost| Row {
        cost,
        what: what(cost),
    })
    .collect()
}

/// What belongs to no row, if there is any.
fn rest<'a>(what: &str, cost: &'a Value) -> Option<Row<'a>> {
    (number(&cost["checkpoints"]) > 0.0).then(|| Row {
        cost,
        what: what.to_owned(),
    })
}

fn port(row: &Value) -> String {
    let mut what = word(&row["protocol"]);
    if let Some(port) = row["port"].as_u64() {
        what = format!("{what}/{port} {}", word(&row["direction"]));
    }
    format!("{what}, mostly {}", word(&row["reason"]))
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn stopped(cost: &Value) -> f64 {
    number(&cost["stopped_ms"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(pair: Value) -> String {
        let mut text = String::new();
        write_pair(&mut text, &pair).expect("a string takes all");
        text
    }

    #[test]
    fn a_pair_without_an_account_says_where_to_ask() {
        let pair = json!({"name": "a", "role": "secondary", "account": null});
        assert_eq!(
            text(pair),
            "pair a: its role is secondary; ask at the node whose VM leads\n"
        );
        let none = json!({"name": "a", "role": "primary", "account": {"over_s": 5.0, "all": {"checkpoints": 0}}});
        assert_eq!(text(none), "pair a: no checkpoint in 5.0 s\n");
    }

    #[test]
    fn rows_come_as_they_are_ranked_with_what_helps_said_once() {
        let cost = |ms: f64, more: Value| {
            let mut cost = json!({"checkpoints": 2, "stopped_ms": ms, "stopped_ms_per_hour": ms * 6.0,
                "waited_ms": 1.0, "held_frames": 3});
            for (key, value) in more.as_object().expect("keys") {
                cost[key] = value.clone();
            }
            cost
        };
        let help = json!([{"what": "guest", "how": "do this"}]);
        let zero = json!({"checkpoints": 0, "stopped_ms": 0.0});
        let listed: Vec<_> = (0..11)
            .map(|number| {
                cost(
                    30.0,
                    json!({"flow": format!("tcp {number}"), "reason": "payload", "help": help}),
                )
            })
            .collect();
        let shown = text(json!({"name": "a", "role": "primary", "account": {
            "over_s": 600.0,
            "all": cost(100.0, json!({})),
            "reasons": [cost(80.0, json!({"reason": "payload", "help": help}))],
            "ports": {
                "listed": [cost(80.0, json!({"protocol": "tcp", "port": 80, "direction": "served", "reason": "payload",
                    "help": help}))],
                "other": zero, "none": cost(20.0, json!({})),
            },
            "flows": {"listed": listed, "other": cost(5.0, json!({})), "error_ms": 0.25},
        }}));
        for line in [
            "pair a: 2 checkpoints in 10 min 0 s stopped the guest for 100.0 ms: 600 guest-ms/h, 0.02 % of the time",
            "         480            2        80.0         1.0        3  payload",
            "         480            2        80.0         1.0        3  tcp/80 served, mostly payload",
            "         120            2        20.0         1.0        3  of no flow",
            "         180            2        30.0         1.0        3  tcp 9, mostly payload",
            "  other flows: 35.0 ms (--json lists a hundred)",
            "  a flow may have cost 0.2 ms more than is shown: there were more than have a place",
        ] {
            assert!(
                shown.lines().any(|it| it == line),
                "{line:?} is not in\n{shown}"
            );
        }
        assert!(
            !shown.contains("tcp 10,") && !shown.contains("other ports"),
            "{shown}"
        );
        assert_eq!(shown.matches("guest: do this").count(), 3, "{shown}");
    }
}
