//! A command of the user's beside a protected pair: `colo-lab run`.

use std::process::Command;

use crate::error::LabError;
use crate::pair::{Host, Mode, Pair, Summaries};
use crate::progress::say;

/// Boots a pair or, without protection, one guest; runs the command in the client's namespace (guest at 10.0.0.2 and
/// fd00::2), and says what it cost. True if the command ended well.
///
/// # Errors
/// When the guests do not come up or the command cannot be started.
pub fn run(host: &Host, mode: &Mode, words: &[String]) -> Result<bool, LabError> {
    let pair = Pair::start(mode, host, true)?;
    let before = pair.checkpoints().len();
    let namespace = pair.net.file();
    let status = Command::new("nsenter")
        .arg(format!("--net={}", namespace.display()))
        .args(words)
        .status()
        .map_err(LabError::file(std::path::Path::new("nsenter")))?;
    say(
        "checkpoints",
        format!("{} meanwhile", pair.checkpoints().len() - before),
    );
    if let Some(Summaries {
        audit: Some(audit), ..
    }) = pair.finish()?
    {
        say("audit", audit?);
    }
    Ok(status.success())
}
