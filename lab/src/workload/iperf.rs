//! iperf3 against the guest's server. Both VMs send the same: the server's payload is zeros, and the client
//! writes what it gets to a file whose every byte is checked.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
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
    /// Bytes that the client got and that were right.
    pub checked: u64,
}

/// Runs one test of `seconds`; `dir` takes its output.
///
/// # Errors
/// [`TrafficError::Iperf`] with iperf3's words, also if it does not end; [`TrafficError::Wrong`] at the first byte
/// that is not the server's; [`LabError::Interrupted`].
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
    let received = dir.join("iperf3.received");
    if direction == Direction::FromGuest {
        arguments.extend(["-R", "-F"].map(str::to_owned));
        arguments.push(received.display().to_string());
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
    let bit_rate = parse(&client.output())?;
    let checked = match direction {
        Direction::FromGuest => zeros(&received)?,
        Direction::ToGuest => 0,
    };
    Ok(Run {
        bit_rate,
        data_until,
        checked,
    })
}

/// Reads a file of zeros, removes it and returns its length.
fn zeros(path: &Path) -> Result<u64, LabError> {
    let mut file = File::open(path).map_err(LabError::file(path))?;
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.map_err(LabError::file(path))?,
        };
        if n == 0 {
            break;
        }
        if let Some(at) = buffer[..n].iter().position(|&byte| byte != 0) {
            return Err(LabError::Traffic(TrafficError::Wrong {
                what: "iperf3".to_owned(),
                offset: length + at as u64,
                expected: 0,
                found: buffer[at],
            }));
        }
        length += n as u64;
    }
    fs::remove_file(path).map_err(LabError::file(path))?;
    Ok(length)
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
    fn a_byte_that_is_not_zero_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("received");
        let mut bytes = vec![0; 3 << 20];
        fs::write(&path, &bytes).expect("written");
        assert_eq!(zeros(&path).expect("all right"), 3 << 20);
        bytes[(2 << 20) + 5] = 7;
        fs::write(&path, &bytes).expect("written");
        let error = zeros(&path).expect_err("one is wrong").to_string();
        assert_eq!(error, "iperf3: byte 2097157 is 0x07, not 0x00");
    }

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
