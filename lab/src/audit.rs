//! The auditor over what the nodes of a run have captured.
//!
//! In: the program and the run folder. Out: its words where all was well; a claim that fails where a
//! rule was broken or nothing could be proven.

use std::path::Path;
use std::process::Command;

use crate::error::LabError;
use crate::node::CAPTURE;

/// Judges the captures of both nodes in a run folder.
///
/// # Errors
/// [`LabError::Claim`] with the auditor's report; [`LabError::File`] if it cannot be started.
pub fn run(program: &Path, dir: &Path) -> Result<String, LabError> {
    let capture = dir.join(CAPTURE);
    let output = Command::new(program)
        .arg("--primary")
        .arg(&capture)
        .arg("--secondary")
        .arg(&capture)
        .output()
        .map_err(LabError::file(program))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // The certificate is for archives.
    let said = said
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    if output.status.success() {
        Ok(said.replace('\n', "; "))
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        Err(LabError::Claim {
            reason: format!("{said}{}", error.trim()),
        })
    }
}
