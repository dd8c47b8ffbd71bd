//! The line of JSON that a load leaves.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Load, Stretch, Times};

/// Rates are in segments per second, which is frames of one VM; delays are in nanoseconds.
pub fn line(load: &Load, most: &Stretch, paced: &Stretch, times: &Times, hz: u64) -> Value {
    json!({
        "frame": load.frame,
        "flows": load.flows,
        "shifted": load.shifted,
        "seed": load.seed,
        "most": {
            "per_second": most.per_second,
            "released": most.released,
            "waiting": most.waiting,
        },
        "paced": {
            "per_second": paced.per_second,
            "released": paced.released,
            "pauses": times.pauses,
            "void": times.void,
            "delay_ns": delays(&times.delays, hz),
        },
    })
}

fn delays(ticks: &Histogram<u64>, hz: u64) -> Value {
    let ns = |ticks: u64| ticks as f64 * 1e9 / hz as f64;
    json!({
        "p50": ns(ticks.value_at_quantile(0.5)),
        "p90": ns(ticks.value_at_quantile(0.9)),
        "p99": ns(ticks.value_at_quantile(0.99)),
        "p999": ns(ticks.value_at_quantile(0.999)),
        "max": ns(ticks.max()),
        "count": ticks.len(),
    })
}
