//! Devices of EAL's half of a command line that stand for a network interface which there is not.
//!
//! The driver names an ioctl and the library below a failed bus; here the word to change is known.

use std::ffi::OsString;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use super::devices::devices;

/// A device without its interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--vdev {device}: there is no interface {interface}; `ip link` lists those of this host; correct iface=, or \
     make the interface first"
)]
pub struct NoInterface {
    device: String,
    interface: String,
}

/// Looks for the interfaces of packet sockets in this process's network namespace, of which `/sys` may know nothing.
///
/// # Errors
/// With the first that is missing.
pub fn require_interfaces(eal: &[OsString]) -> Result<(), NoInterface> {
    let Ok(any) = socket(AddressFamily::UNIX, SocketType::DGRAM, None) else {
        return Ok(());
    };
    require(|name| name_to_index(&any, name) != Err(Errno::NODEV), eal)
}

fn require(is_there: impl Fn(&str) -> bool, eal: &[OsString]) -> Result<(), NoInterface> {
    let missing = |device: &str| {
        let mut words = device.split(',');
        let name = words.next()?;
        let stands = name.starts_with("net_af_packet") || name.starts_with("net_af_xdp");
        let interface = words.find_map(|word| word.strip_prefix("iface="))?;
        let is_name = !interface.is_empty() && !interface.contains('/');
        (stands && is_name && !is_there(interface)).then(|| NoInterface {
            device: name.to_owned(),
            interface: interface.to_owned(),
        })
    };
    match devices(eal).find_map(missing) {
        Some(missing) => Err(missing),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_packet_socket_needs_an_interface() {
        let look = |line: &str| {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            require(|name| name == "eth0", &words).map_err(|missing| missing.interface)
        };
        assert_eq!(look("p --vdev net_af_packet0,iface=eth0"), Ok(()));
        assert_eq!(look("p --vdev net_vhost0,iface=/run/vm.sock"), Ok(()));
        assert_eq!(look("p --vdev=net_tap0,iface=tap7"), Ok(()));
        assert_eq!(
            look("p --vdev net_null0 --vdev=net_af_packet1,qpairs=1,iface=eth1"),
            Err("eth1".to_owned())
        );
        assert_eq!(
            look("p --vdev net_af_xdp0,iface=eth2"),
            Err("eth2".to_owned())
        );
    }

    #[test]
    fn the_kernel_knows_which_interfaces_there_are() {
        let look = |name: &str| {
            let device = format!("--vdev=net_af_packet0,iface={name}");
            require_interfaces(&["p".into(), device.into()])
        };
        assert_eq!(look("lo"), Ok(()));
        assert!(look("no-such-nic0").is_err());
    }
}
