//! What the telemetry command answers: the figures of all pairs or of one, and never a part of them without a word.
//!
//! DPDK cuts off what exceeds the bounds of a reply. Figures that do not fit are not answered; the answer says so and
//! names the pairs, each of which can be asked for.

use serde_json::{Value, json};

use super::summary::Summary;

/// The command, whose parameter is the name of a pair or nothing.
pub const COMMAND: &str = "/colo/stats";
/// What `/help` says of it.
pub const HELP: &str = "Statistics of all VM pairs, or of one: /colo/stats,PAIR.";

/// Bytes of a reply (`MAX_OUTPUT_LEN` in DPDK's `telemetry.c`) less what the command's own name takes.
const REPLY: usize = (16 << 10) - 128;
/// Entries of an object (`RTE_TEL_MAX_DICT_ENTRIES`).
const ENTRIES: usize = 256;
/// Entries of an array (`RTE_TEL_MAX_ARRAY_ENTRIES`).
const ITEMS: usize = 512;

/// The answer while there are no figures.
pub fn absent() -> Value {
    json!({ "error": "the node is starting or ending and has no figures" })
}

/// The answer to the command with this parameter.
pub fn answer(summary: &Summary, parameter: &str) -> Value {
    let pairs = summary.pairs();
    let figures = if parameter.is_empty() {
        serde_json::to_value(summary)
    } else {
        match pairs.iter().find(|pair| pair.name == parameter) {
            Some(pair) => serde_json::to_value(pair),
            None => return listed("no VM pair has this name", summary),
        }
    };
    match figures.unwrap_or_default() {
        figures if fits(&figures) => figures,
        _ if parameter.is_empty() => listed(
            "longer than a reply may be: ask for one pair with /colo/stats,PAIR",
            summary,
        ),
        _ => listed(
            "longer than a reply may be: see --summary or --metrics",
            summary,
        ),
    }
}

/// An error, and the names of the pairs as far as they fit.
fn listed(error: &str, summary: &Summary) -> Value {
    let pairs = summary.pairs();
    let mut names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
    loop {
        let left_out = pairs.len() - names.len();
        let mut answer = json!({ "error": error, "pairs": names });
        if left_out > 0 {
            answer["pairs_left_out"] = left_out.into();
        }
        if fits(&answer) || names.is_empty() {
            return answer;
        }
        names.truncate(names.len() * 3 / 4);
    }
}

/// Whether DPDK cuts nothing off.
fn fits(value: &Value) -> bool {
    encoded(value).is_some_and(|length| length <= REPLY)
}

/// Bytes of a value in a reply, at most; `None` for one with more entries than DPDK takes.
fn encoded(value: &Value) -> Option<usize> {
    /// Quotation marks, a colon and a comma.
    const AROUND: usize = 4;
    let sum = |lengths: &mut dyn Iterator<Item = Option<usize>>| lengths.sum::<Option<usize>>();
    match value {
        Value::Null => Some(0),
        Value::Bool(_) => Some(1),
        // Telemetry knows no floating point: it is a string with three decimals.
        Value::Number(number) => Some(match number.as_f64() {
            Some(float) if number.is_f64() => format!("\"{float:.3}\"").len(),
            _ => number.to_string().len(),
        }),
        // Each character may be escaped.
        Value::String(text) => Some(2 + 2 * text.len()),
        Value::Array(items) if items.len() > ITEMS => None,
        // It may be an object whose keys are the numbers of the items.
        Value::Array(items) => {
            let item = |item| Some(encoded(item)? + AROUND + 3);
            Some(2 + sum(&mut items.iter().map(item))?)
        }
        Value::Object(entries) if entries.len() > ENTRIES => None,
        Value::Object(entries) => {
            let entry = |(key, item): (&String, &Value)| Some(key.len() + encoded(item)? + AROUND);
            Some(2 + sum(&mut entries.iter().map(entry))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_never_taken_for_less_than_it_is() {
        for value in [
            json!({"a": 1, "b": {"c": [1, 2, 3], "d": "text \" \\"}}),
            json!({"half": "0.500", "names": ["x", "y"]}),
            json!({"0": {"a": 1}, "1": {"b": u64::MAX}}),
        ] {
            let length = value.to_string().len();
            assert!(encoded(&value).expect("few entries") >= length, "{value}");
        }
        assert_eq!(encoded(&json!(0.5)), Some("\"0.500\"".len()));
        assert_eq!(encoded(&json!(vec![0; ITEMS + 1])), None);
        let many: serde_json::Map<_, _> =
            (0..=ENTRIES).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(encoded(&json!({ "nested": many })), None);
    }
}
