//! The addresses of an Ethernet frame, and its outer VLAN.

use std::fmt;
use std::str::FromStr;

use crate::proto::ether;

/// An Ethernet address of a VM: one host's, not a group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(u64);

/// A text that is no VM's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give the Ethernet address of a VM's NIC, as 52:54:00:12:34:56")]
pub struct MacError;

/// Bit of a group's address (IEEE 802.3, 3.2.3).
const GROUP: u64 = 1 << 40;
/// Bits of a VLAN's identifier.
const VLAN: u16 = 0x0fff;
/// Bits of a station that are not its address: a VLAN's identifier, and [`ANY`].
const BITS: u32 = 13;
/// No identifier of a VLAN, and in the place of one: any.
const ANY: u64 = 1 << 12;

impl Mac {
    /// `None` for a group's address, and for zero.
    pub fn new(bytes: [u8; 6]) -> Option<Self> {
        let address = word(&bytes);
        (address != 0 && address & GROUP == 0).then_some(Self(address))
    }

    /// The address in any VLAN.
    pub(super) fn anywhere(self) -> Station {
        Station(self.0 << BITS | ANY)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            let part = part.filter(|part| part.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or(MacError)?;
        }
        match parts.next() {
            None => Self::new(bytes).ok_or(MacError),
            Some(_) => Err(MacError),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, _, a, b, c, d, e, g] = self.0.to_be_bytes();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address in a VLAN, or in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Station(pub u64);

/// What a switch reads of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    destination: u64,
    source: u64,
    vlan: u64,
}

impl Addresses {
    /// `None` for a frame without an Ethernet header.
    #[inline]
    pub(super) fn read(head: &[u8]) -> Option<Self> {
        let header = head.first_chunk::<14>()?;
        let [destination @ .., _, _, _, _, _, _, _, _] = header;
        let [_, _, _, _, _, _, source @ .., _, _] = header;
        let vlan = match u16::from_be_bytes([header[12], header[13]]) {
            // A tag of VLAN 0 says a priority and no VLAN.
            ether::TAG | ether::SERVICE_TAG => head
                .get(14..16)
                .and_then(|tag| tag.first_chunk().copied())
                .map_or(0, |tag| u16::from_be_bytes(tag) & VLAN),
            _ => 0,
        };
        Some(Self {
            destination: word(destination),
            source: word(source),
            vlan: vlan.into(),
        })
    }

    /// Whether a group is to get the frame, all of a network included.
    pub(super) fn is_for_group(self) -> bool {
        self.destination & GROUP != 0
    }

    /// The receiver in the frame's VLAN, and in any.
    pub(super) fn receiver(self) -> [Station; 2] {
        self.station(self.destination)
    }

    /// The same of the sender; `None` where that is nobody's address.
    pub(super) fn sender(self) -> Option<[Station; 2]> {
        let is_one = self.source != 0 && self.source & GROUP == 0;
        is_one.then(|| self.station(self.source))
    }

    fn station(self, address: u64) -> [Station; 2] {
        [
            Station(address << BITS | self.vlan),
            Station(address << BITS | ANY),
        ]
    }
}

#[inline]
fn word(bytes: &[u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = *bytes;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_vm_s() {
        for text in ["52:54:00:12:34:56", "02:00:00:00:00:01"] {
            assert_eq!(text.parse::<Mac>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:5",
            "52-54-00-12-34-56",
            "5x:54:00:12:34:56",
            "+2:54:00:12:34:56",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(MacError), "{text}");
        }
    }

    #[test]
    fn the_outer_tag_is_the_vlan() {
        let mut frame = [0; 22];
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        let vlan = |frame: &[u8]| Addresses::read(frame).map(|read| read.vlan);
        for (ether_type, found) in [(ether::IPV4, 0), (ether::TAG, 7), (ether::SERVICE_TAG, 7)] {
            frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
            frame[14..16].copy_from_slice(&0xe007_u16.to_be_bytes());
            assert_eq!(vlan(&frame), Some(found), "{ether_type:x}");
            assert_eq!(vlan(&frame[..14]), Some(0), "nothing behind {ether_type:x}");
        }
        assert_eq!(vlan(&frame[..13]), None);
    }
}
