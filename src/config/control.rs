//! Where the control socket lies, and who may use it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// Where the control socket lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum ControlPlace {
    /// In EAL's runtime directory.
    #[default]
    Runtime,
    /// `none`: there is none.
    None,
    /// At this path.
    At(PathBuf),
}

impl From<String> for ControlPlace {
    fn from(text: String) -> Self {
        match text.as_str() {
            "none" => Self::None,
            _ => Self::At(text.into()),
        }
    }
}

impl FromStr for ControlPlace {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

/// The control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlSettings {
    /// Where it lies.
    pub place: ControlPlace,
    /// The group that may use it besides its owner, by name or number.
    pub group: Option<String>,
}
