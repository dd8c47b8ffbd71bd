//! The values that keys take, each checked where it is read, whether from the command line or from
//! the file.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A word that is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is `primary`, `secondary` or `compare`")]
pub struct UnknownRole;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }

    const OUT_OF_RANGE: OutOfRange = OutOfRange { min: MIN, max: MAX };
}

impl<const MIN: u32, const MAX: u32> TryFrom<i64> for Bounded<MIN, MAX> {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        u32::try_from(number)
            .ok()
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or(Self::OUT_OF_RANGE)
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Bounded<MIN, MAX> {
    type Err = OutOfRange;

    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        text.parse::<i64>()
            .map_err(|_| Self::OUT_OF_RANGE)?
            .try_into()
    }
}

/// A number outside its range, or no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a whole number from {min} to {max}")]
pub struct OutOfRange {
    min: u32,
    max: u32,
}

/// The name of an ethdev, as in `net_vhost0` or `0000:01:00.0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct PortName(Box<str>);

impl PortName {
    /// Longest name in bytes: DPDK's `RTE_ETH_NAME_MAX_LEN` without the terminator.
    pub const MAX_LEN: usize = 63;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PortName {
    type Err = PortNameError;

    fn from_str(name: &str) -> Result<Self, PortNameError> {
        let plain = |byte: u8| byte.is_ascii_graphic();
        if (1..=Self::MAX_LEN).contains(&name.len()) && name.bytes().all(plain) {
            Ok(Self(name.into()))
        } else {
            Err(PortNameError)
        }
    }
}

impl TryFrom<String> for PortName {
    type Error = PortNameError;

    fn try_from(name: String) -> Result<Self, PortNameError> {
        name.parse()
    }
}

/// A name that no ethdev can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a port is the name of an ethdev, 1 to {} printable ASCII characters without a space, \
     such as `net_vhost0`",
    PortName::MAX_LEN
)]
pub struct PortNameError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_their_range() {
        type Small = Bounded<1, 10>;
        assert_eq!("1".parse::<Small>().map(Small::value), Ok(1));
        assert_eq!("10".parse::<Small>().map(Small::value), Ok(10));
        for text in [
            "0",
            "11",
            "-1",
            "",
            "1.5",
            "4294967297",
            "1 ",
            "99999999999999999999",
        ] {
            let error = text.parse::<Small>().expect_err(text);
            assert_eq!(error.to_string(), "give a whole number from 1 to 10");
        }
    }

    #[test]
    fn port_names_are_what_an_ethdev_can_be_called() {
        for name in ["net_vhost0", "0000:01:00.0", &"x".repeat(63)] {
            assert_eq!(name.parse::<PortName>().expect(name).as_str(), name);
        }
        for name in ["", "a b", "a\n", "é", &"x".repeat(64)] {
            assert_eq!(name.parse::<PortName>(), Err(PortNameError), "{name:?}");
        }
    }
}
