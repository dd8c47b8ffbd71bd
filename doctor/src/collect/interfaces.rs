//! Interfaces of the kernel, and devices of the PCI bus.

use super::Root;
use crate::facts::Interface;

const NET: &str = "/sys/class/net";
/// `IFF_UP`.
const UP: u32 = 1;

pub(super) fn interface(root: &Root, name: &str) -> Option<Interface> {
    let of = |file: &str| root.text(&format!("{NET}/{name}/{file}"));
    let flags = of("flags")?;
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
    Some(Interface {
        mtu: of("mtu")?.parse().ok()?,
        up: flags & UP != 0,
        carrier: of("carrier").map(|carrier| carrier == "1"),
        numa: numa(root, name),
    })
}

/// A device of no node has -1.
pub(super) fn numa(root: &Root, interface: &str) -> Option<u32> {
    root.number(&format!("{NET}/{interface}/device/numa_node"))
}

pub(super) fn numa_of_pci(root: &Root, address: &str) -> Option<u32> {
    root.number(&format!("{}/numa_node", pci_directory(address)?))
}

/// Where `/sys` has a device of the PCI bus. A name that leads elsewhere is none of the bus.
pub(super) fn pci_directory(address: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let long = match address.matches(':').count() {
        1 => format!("0000:{address}"),
        _ => address.to_owned(),
    };
    let is_address = long.bytes().all(plain) && long.matches(':').count() == 2;
    is_address.then(|| format!("/sys/bus/pci/devices/{long}"))
}
