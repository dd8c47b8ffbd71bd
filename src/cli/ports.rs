//! Holds the settings against the ports that the EAL has, which only its start can tell.

use super::UsageError;
use crate::config::Settings;

/// Checks that every port of `settings` is among `known`.
///
/// # Errors
/// At the first port that is not.
pub fn require_ports(settings: &Settings, known: &[String]) -> Result<(), UsageError> {
    for (place, port) in settings.pairs.iter().flat_map(|pair| pair.ports()) {
        if !known.iter().any(|known| known == port.as_str()) {
            return Err(UsageError::UnknownPort {
                place,
                port: port.clone(),
                known: known.to_vec(),
            });
        }
    }
    Ok(())
}
