//! The addresses of a VM, as a key has them.

use std::str::FromStr;

use serde::Deserialize;

use crate::switch::{ADDRESSES, Mac, MacError};

/// The Ethernet addresses of a VM's NICs behind one guest port, each once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Macs(Vec<Mac>);

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacsError {
    /// One is no address.
    #[error("{MacError}, several with commas between them")]
    Form,
    /// One stands there twice.
    #[error("an address stands there twice; remove one")]
    Twice,
    /// They are too many.
    #[error("give {ADDRESSES} addresses at most")]
    Many,
}

impl Macs {
    /// The addresses.
    pub fn into_vec(self) -> Vec<Mac> {
        self.0
    }
}

impl FromStr for Macs {
    type Err = MacsError;

    fn from_str(text: &str) -> Result<Self, MacsError> {
        let mut macs = Vec::new();
        for part in text.split(',') {
            let mac: Mac = part.parse().map_err(|MacError| MacsError::Form)?;
            if macs.contains(&mac) {
                return Err(MacsError::Twice);
            }
            macs.push(mac);
        }
        match macs.len() > ADDRESSES {
            true => Err(MacsError::Many),
            false => Ok(Self(macs)),
        }
    }
}

impl TryFrom<String> for Macs {
    type Error = MacsError;

    fn try_from(text: String) -> Result<Self, MacsError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_between_commas_each_once() {
        let macs = |text: &str| text.parse::<Macs>().map(|macs| macs.0.len());
        assert_eq!(macs("52:54:00:00:00:01"), Ok(1));
        assert_eq!(macs("52:54:00:00:00:01,52:54:00:00:00:02"), Ok(2));
        assert_eq!(macs(""), Err(MacsError::Form));
        assert_eq!(macs("52:54:00:00:00:01,"), Err(MacsError::Form));
        assert_eq!(
            macs("52:54:00:00:00:01, 52:54:00:00:00:02"),
            Err(MacsError::Form)
        );
        assert_eq!(
            macs("52:54:00:00:00:0a,52:54:00:00:00:0A"),
            Err(MacsError::Twice)
        );
        let many: Vec<String> = (0..=ADDRESSES)
            .map(|n| format!("52:54:00:00:00:{n:02x}"))
            .collect();
        assert_eq!(macs(&many.join(",")), Err(MacsError::Many));
        assert_eq!(macs(&many[1..].join(",")), Ok(ADDRESSES));
    }
}
