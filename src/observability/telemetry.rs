//! What the telemetry commands answer: figures of all pairs or of one, and never a part of them without a word.
//!
//! DPDK cuts off what exceeds the bounds of a reply. Figures that do not fit are not answered; the answer says so and
//! names the pairs or the parts, each of which can be asked for. Lists that do not fit come in several answers, of which
//! each says where the next one begins. Telemetry knows no floating point: numbers are whole.

use serde_json::{Map, Value, json};

use super::counters::{Counter, Group};
use super::latency::BOUNDS;
use super::summary::{PairSummary, Summary};

/// The statistics.
pub const STATS: &str = "/colo/stats";

/// A command: its path, what `/help` says of it, and what it answers to its parameter.
pub struct Command {
    /// Its path.
    pub path: &'static str,
    /// What `/help` says of it.
    pub help: &'static str,
    answer: fn(&Summary, &str) -> Value,
}

/// All commands.
pub const COMMANDS: [Command; 4] = [
    Command {
        path: STATS,
        help: "Statistics of all VM pairs, of one, or a part of them: /colo/stats,PAIR,PART,FROM.",
        answer: stats,
    },
    Command {
        path: "/colo/pairs",
        help: "Names, roles and states of the VM pairs, from the first or another on: /colo/pairs,FROM.",
        answer: pairs,
    },
    Command {
        path: "/colo/latency",
        help: "Percentiles and buckets of one VM pair's latencies in nanoseconds: /colo/latency,PAIR.",
        answer: latency,
    },
    Command {
        path: "/colo/divergences",
        help: "Divergences, checkpoints and stops of one VM pair by reason: /colo/divergences,PAIR.",
        answer: divergences,
    },
];

impl Command {
    /// The answer to the command with this parameter.
    pub fn answer(&self, summary: &Summary, parameter: &str) -> Value {
        (self.answer)(summary, parameter)
    }
}

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

/// The pair that a parameter names, and what follows the name.
fn pair_of<'a, 'b>(summary: &'a Summary, parameter: &'b str) -> Option<(&'a PairSummary, &'b str)> {
    let pairs = summary.pairs();
    if let ([only], "") = (&*pairs, parameter) {
        return Some((only, ""));
    }
    // A name may have a comma in it.
    let mut found: Vec<_> = pairs
        .into_iter()
        .filter_map(|pair| {
            let rest = parameter.strip_prefix(&*pair.name)?;
            match rest.strip_prefix(',') {
                Some(rest) => Some((pair, rest)),
                None => rest.is_empty().then_some((pair, "")),
            }
        })
        .collect();
    found.sort_by_key(|(pair, _)| pair.name.len());
    found.pop()
}

fn stats(summary: &Summary, parameter: &str) -> Value {
    if parameter.is_empty() {
        return match tree(summary) {
            figures if fits(&figures) => figures,
            _ => listed(
                "longer than a reply may be: ask for one pair with /colo/stats,PAIR",
                summary,
            ),
        };
    }
    let Some((pair, part)) = pair_of(summary, parameter) else {
        return listed(NO_PAIR, summary);
    };
    let figures = tree(pair);
    if part.is_empty() {
        return match fits(&figures) {
            true => figures,
            false => {
                let parts: Vec<&String> = figures
                    .as_object()
                    .into_iter()
                    .flat_map(Map::keys)
                    .collect();
                json!({
                    "error": "longer than a reply may be: ask for a part with /colo/stats,PAIR,PART",
                    "parts": parts,
                })
            }
        };
    }
    let (part, from) = part.split_once(',').unwrap_or((part, "0"));
    match (figures.get(part), from.parse()) {
        (Some(Value::Object(entries)), Ok(from)) => page(entries, from),
        (Some(figure), Ok(0)) => json!({ part: figure }),
        (Some(_), _) => json!({ "error": "FROM is the number of an entry, from 0 on" }),
        (None, _) => json!({ "error": "no part has this name" }),
    }
}

/// The entries from this one on, as many as fit, and `next` where there are more.
fn page(entries: &Map<String, Value>, from: usize) -> Value {
    let mut page = Map::new();
    for (at, (key, value)) in entries.iter().enumerate().skip(from) {
        page.insert(key.clone(), value.clone());
        let more = at + 1 < entries.len();
        let mut answer = json!({ "entries": page });
        if more {
            answer["next"] = (at + 1).into();
        }
        if !fits(&answer) {
            page.remove(key);
            return json!({ "entries": page, "next": at });
        }
    }
    json!({ "entries": page })
}

fn pairs(summary: &Summary, parameter: &str) -> Value {
    let pairs = summary.pairs();
    let from = match parameter {
        "" => Ok(0),
        number => number.parse::<usize>(),
    };
    let Ok(from) = from else {
        return json!({ "error": "FROM is the number of a pair, from 0 on" });
    };
    let mut shown = pairs.get(from..).unwrap_or_default();
    loop {
        let of = |what: fn(&PairSummary) -> &str| -> Vec<&str> {
            shown.iter().map(|pair| what(pair)).collect()
        };
        let mut answer = json!({
            "count": pairs.len(),
            "pairs": of(|pair| &pair.name),
            "roles": of(|pair| pair.role),
            "states": of(|pair| pair.state),
        });
        if from + shown.len() < pairs.len() {
            answer["next"] = (from + shown.len()).into();
        }
        if fits(&answer) || shown.is_empty() {
            return answer;
        }
        shown = &shown[..shown.len() * 3 / 4];
    }
}

fn latency(summary: &Summary, parameter: &str) -> Value {
    let Some((pair, _)) = pair_of(summary, parameter) else {
        return listed(NO_PAIR, summary);
    };
    let mut answer = json!({ "bounds_ns": BOUNDS });
    for ((word, _), it) in PairSummary::DISTRIBUTIONS
        .into_iter()
        .zip(&pair.distributions)
    {
        let mut figures = tree(&it.summary);
        figures["sum"] = it.buckets.sum.into();
        figures["buckets"] = it.buckets.counts.to_vec().into();
        answer[format!("{word}_ns")] = figures;
    }
    answer
}

fn divergences(summary: &Summary, parameter: &str) -> Value {
    let Some((pair, _)) = pair_of(summary, parameter) else {
        return listed(NO_PAIR, summary);
    };
    let reasons = Counter::ALL
        .iter()
        .filter(|counter| counter.group() == Group::Divergence);
    let reasons: Map<String, Value> = reasons
        .map(|counter| (counter.name().to_owned(), pair.value(*counter).into()))
        .collect();
    let answer = json!({
        "divergences": reasons,
        "checkpoints": tree(&pair.checkpoints.counts),
        "stops": tree(&pair.checkpoints.reasons),
        "records": tree(&pair.records),
    });
    debug_assert!(fits(&answer), "as many reasons as the program knows");
    answer
}

const NO_PAIR: &str = "no VM pair has this name";

/// The JSON, with whole numbers only.
fn tree(figures: &impl serde::Serialize) -> Value {
    let mut tree = serde_json::to_value(figures).unwrap_or_default();
    make_whole(&mut tree);
    tree
}

fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let (true, Some(float)) = (number.is_f64(), number.as_f64()) {
                *value = (float.round().max(0.0) as u64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(entries) => entries.values_mut().for_each(make_whole),
        _ => {}
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
