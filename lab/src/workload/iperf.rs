//! iperf3 against the guest's server. Both VMs send the same: the server's payload is zeros.
//!
//! Its bytes are not checked here: TCP's checksum and iperf3's own counting stand for them.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Family, TrafficError, wall_clock};
use crate::error::LabError;
use crate::interrupt;
use crate::process::Process;

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Client to guest.
    ToGuest,
    /// Guest to client.
    FromGuest,
}

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What the receiver got, in bits per second.
    pub bit_rate: f64,
    /// Data flowed at least until then, in time since the Unix epoch; what follows is the closing report.
    pub data_until: Duration,
}

/// Runs one test of `seconds`; `dir` takes its output.
///
/// # Errors
/// [`TrafficError::Iperf`] with iperf3's words, also if it does not end; [`LabError::Interrupted`].
pub fn run(
    family: Family,
    direction: Direction,
    seconds: u32,
    dir: &Path,
) -> Result<Run, LabError> {
    let mut arguments: Vec<String> = [
        "-J",
        "--repeating-payload",
        "--connect-timeout",
        "5000",
        "-c",
        &family.guest().to_string(),
        "-t",
        &seconds.to_string(),
    ]
    .map(str::to_owned)
    .into();
    if direction == Direction::FromGuest {
        arguments.push("-R".to_owned());
    }
    // Between two tests the server closes its listener for a moment.
    interrupt::sleep(Duration::from_secs(1))?;
    let data_until = wall_clock() + Duration::from_secs(u64::from(seconds));
    let mut client = Process::start(
        "iperf3",
        Path::new("iperf3"),
        &arguments,
        &[],
        None,
        dir.join("iperf3.json"),
    )?;
    let limit = Duration::from_secs(u64::from(seconds) + 20);
    match interrupt::wait_for("the end of iperf3", limit, || {
        Ok((!client.runs()).then_some(()))
    }) {
        Err(LabError::Late { .. }) => {
            client.kill();
            Err(failure(format!("did not end within {} s", limit.as_secs())))
        }
        other => other,
    }?;
    Ok(Run {
        bit_rate: parse(&client.output())?,
        data_until,
    })
}

fn failure(reason: String) -> LabError {
    LabError::Traffic(TrafficError::Iperf { reason })
}

fn parse(output: &str) -> Result<f64, LabError> {
    let report: Value = serde_json::from_str(output)
        .map_err(|_| failure(format!("printed no report but: {}", output.trim())))?;
    if let Some(error) = report["error"].as_str() {
        return Err(failure(error.to_owned()));
    }
    report
        .pointer("/end/sum_received/bits_per_second")
        .and_then(Value::as_f64)
        .ok_or_else(|| failure("its report has no /end/sum_received".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_gives_the_receivers_rate_or_the_error() {
        let good = r#"{"end": {"sum_received": {"bits_per_second": 5e8}}}"#;
        assert_eq!(parse(good).expect("a rate"), 5e8);
        let text = parse(r#"{"error": "the server is busy"}"#)
            .expect_err("busy")
            .to_string();
        assert_eq!(text, "iperf3: the server is busy");
        assert!(parse("Segmentation fault").is_err());
    }
}
