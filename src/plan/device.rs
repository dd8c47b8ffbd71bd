//! The frames that a port can carry, from what ethdev and the device's arguments say.
//!
//! Ethdev's MTU is not the truth for every driver: a packet socket has the MTU of its interface,
//! and a frame must fit into a frame of the socket's ring; vhost and virtio take any length.

use super::driver::Driver;
use super::fault::DeviceFault;

/// Bytes of an Ethernet header and of the two tags that a frame may have.
pub const HEADERS: u16 = 14 + TAGS;
/// Bytes of two tags.
const TAGS: u16 = 2 * 4;
/// Bytes of virtio's own header.
const VIRTIO_HEADER: u16 = 12;
/// MTU of an Ethernet.
const ETHERNET_MTU: u16 = 1500;
/// The longest buffer of an mbuf, its headroom of 128 bytes left out.
const LONGEST_BUFFER: u16 = u16::MAX - 128;

/// `framesz` where net_af_packet is given none.
const RING_FRAME: u32 = 2048;
/// What the kernel puts before the payload of a received frame: `TPACKET2_HDRLEN` and the Ethernet
/// header, aligned (`tpacket_rcv` of Linux).
pub(super) const BEFORE_PAYLOAD: u32 = 80;
/// What it puts before a frame that is sent, and net_af_packet takes off for a buffer.
const BEFORE_FRAME: u32 = 32;
/// A tag within another stays in the frame.
pub(super) const INNER_TAG: u32 = 4;

/// What is known of a device before its port is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its driver, such as `net_vhost`.
    pub driver: String,
    /// Its arguments as behind the name in `--vdev`, such as `iface=eth0,framesz=4096`.
    pub arguments: String,
    /// Receive queues that it has.
    pub queues: u16,
    /// Its MTU in bytes as ethdev knows it.
    pub mtu: u16,
    /// The largest MTU that ethdev lets be configured, in bytes.
    pub max_mtu: u16,
    /// Bytes of a frame that ethdev counts beside the MTU.
    pub overhead: u16,
    /// Whether it can receive a frame into several buffers.
    pub scatters: bool,
    /// The kernel's interface that it stands for.
    pub interface: Option<Interface>,
}

/// An interface of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// The frames that a port carries, and how it has to be configured for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carries {
    /// Most bytes of a frame behind Ethernet header and tags; `None` where any length goes.
    pub mtu: Option<u16>,
    /// The MTU to configure; `None` leaves ethdev's default, which means nothing to the driver.
    pub configure: Option<u16>,
    /// Whether a frame is to be received into several buffers.
    pub scatter: bool,
    /// Bytes that each buffer must have room for.
    pub buffer: u16,
    /// Bytes of the interface's MTU where its longest frames do not fit: they arrive cut off.
    pub cut_above: Option<u16>,
}

impl Device {
    /// Refuses a device that receives on queues which a node would not poll.
    ///
    /// # Errors
    /// [`DeviceFault::Queues`].
    pub fn one_queue(&self) -> Result<(), DeviceFault> {
        match Driver::of(&self.driver).one_queue {
            Some(argument) if self.queues > 1 => Err(DeviceFault::Queues {
                queues: self.queues,
                argument,
            }),
            _ => Ok(()),
        }
    }

    /// What frames the port carries where an MTU of `asked` bytes is wanted, or else the device's
    /// own. Buffers have room for `buffer` bytes without their headroom.
    ///
    /// # Errors
    /// When the device cannot have that MTU.
    pub fn carries(&self, asked: Option<u16>, buffer: u16) -> Result<Carries, DeviceFault> {
        match self.driver.as_str() {
            "net_af_packet" => self.packet_socket(asked, buffer),
            "net_af_xdp" => {
                let mtu = self.of_interface(asked)?.min(self.max_mtu);
                self.within_limit(asked)?;
                Ok(Carries {
                    mtu: Some(mtu),
                    buffer,
                    ..Carries::default()
                })
            }
            driver if Driver::of(driver).any_length => {
                self.within_limit(asked)?;
                // Without mergeable buffers virtio receives a frame into one, its own header included.
                let buffer = match asked {
                    Some(mtu) if driver.starts_with("net_virtio") && !self.scatters => {
                        buffer.max(mtu.saturating_add(HEADERS + VIRTIO_HEADER))
                    }
                    _ => buffer,
                };
                Ok(Carries {
                    mtu: asked,
                    buffer,
                    ..Carries::default()
                })
            }
            _ => {
                self.within_limit(asked)?;
                let mtu = asked.unwrap_or(self.mtu.min(self.max_mtu));
                let frame = mtu.saturating_add(self.overhead.max(HEADERS));
                let scatter = frame > buffer && self.scatters;
                Ok(Carries {
                    mtu: Some(mtu),
                    configure: Some(mtu),
                    scatter,
                    buffer: if scatter { buffer } else { frame.max(buffer) },
                    cut_above: None,
                })
            }
        }
    }

    /// A packet socket's driver copies a received frame into one buffer, which must hold a frame of
    /// the ring.
    fn packet_socket(&self, asked: Option<u16>, buffer: u16) -> Result<Carries, DeviceFault> {
        let own = self.of_interface(asked)?;
        let ring = self.number("framesz").unwrap_or(RING_FRAME);
        let holds = ring.saturating_sub(BEFORE_PAYLOAD + INNER_TAG);
        let holds = u16::try_from(holds).unwrap_or(u16::MAX);
        let needed = u16::try_from(ring.saturating_sub(BEFORE_FRAME))
            .ok()
            .filter(|needed| *needed <= LONGEST_BUFFER)
            .ok_or(DeviceFault::RingFrameTooLong { has: ring })?;
        match asked {
            Some(asked) if asked > holds => {
                return Err(DeviceFault::RingFrame {
                    has: ring,
                    holds,
                    asked,
                });
            }
            _ => {}
        }
        Ok(Carries {
            mtu: Some(own.min(holds)),
            buffer: needed.max(buffer),
            cut_above: (own > holds).then_some(own),
            ..Carries::default()
        })
    }

    /// The MTU asked for, if the interface allows it, or the interface's own.
    fn of_interface(&self, asked: Option<u16>) -> Result<u16, DeviceFault> {
        let Some(Interface { name, mtu }) = &self.interface else {
            return Ok(asked.unwrap_or(ETHERNET_MTU));
        };
        match asked {
            Some(asked) if u32::from(asked) > *mtu => Err(DeviceFault::Interface {
                interface: name.clone(),
                has: *mtu,
                asked,
            }),
            Some(asked) => Ok(asked),
            None => Ok(u16::try_from(*mtu).unwrap_or(u16::MAX)),
        }
    }

    fn within_limit(&self, asked: Option<u16>) -> Result<(), DeviceFault> {
        match asked {
            Some(asked) if asked > self.max_mtu => Err(DeviceFault::Driver {
                driver: self.driver.clone(),
                most: self.max_mtu,
                asked,
            }),
            _ => Ok(()),
        }
    }

    /// The number that an argument gives.
    fn number(&self, key: &str) -> Option<u32> {
        let mut words = self.arguments.split(',');
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::ring_for;
    use super::*;

    const BUFFER: u16 = 2048;

    fn packet_socket(arguments: &str, mtu: u32) -> Device {
        Device {
            driver: "net_af_packet".to_owned(),
            arguments: arguments.to_owned(),
            queues: 1,
            mtu: 1500,
            max_mtu: 1500,
            overhead: 18,
            interface: Some(Interface {
                name: "eth1".to_owned(),
                mtu,
            }),
            ..Device::default()
        }
    }

    fn nic(scatters: bool) -> Device {
        Device {
            driver: "net_ixgbe".to_owned(),
            queues: 128,
            mtu: 1500,
            max_mtu: 9710,
            overhead: 18,
            scatters,
            ..Device::default()
        }
    }

    #[test]
    fn a_packet_socket_has_the_mtu_of_its_interface_as_far_as_its_ring_holds_it() {
        for (arguments, mtu, carried, buffer, cut) in [
            ("iface=eth1", 1500, 1500, 2048, None),
            ("iface=eth1", 1964, 1964, 2048, None),
            ("iface=eth1", 1965, 1964, 2048, Some(1965)),
            ("iface=eth1", 9000, 1964, 2048, Some(9000)),
            (
                "iface=eth1,framesz=16384,blocksz=65536",
                9000,
                9000,
                16_352,
                None,
            ),
            ("framesz=4096,iface=eth1", 9000, 4012, 4064, Some(9000)),
            (
                "iface=eth1,framesz=16384",
                65_536,
                16_300,
                16_352,
                Some(65_535),
            ),
        ] {
            let carries = packet_socket(arguments, mtu).carries(None, BUFFER);
            let expected = Carries {
                mtu: Some(carried),
                buffer,
                cut_above: cut,
                ..Carries::default()
            };
            assert_eq!(carries, Ok(expected), "{arguments} {mtu}");
        }
    }

    #[test]
    fn an_mtu_that_a_packet_socket_cannot_have_is_refused_with_what_would_do() {
        let text = |arguments: &str, mtu: u32| {
            let refused = packet_socket(arguments, mtu).carries(Some(9000), BUFFER);
            refused.expect_err(arguments).to_string()
        };
        let small = text("iface=eth1,framesz=16384", 1500);
        assert!(small.contains("ip link set dev eth1 mtu 9000"), "{small}");
        let short = text("iface=eth1", 9000);
        assert!(short.contains("framesz=16384,blocksz=65536"), "{short}");
        let long = text("iface=eth1,framesz=65536", 9000);
        assert!(
            long.contains("framesz=65536") && long.contains("at most 32768"),
            "{long}"
        );
        assert_eq!(ring_for(u16::MAX), "framesz=32768,blocksz=65536");
        // What the refusal recommends is then taken.
        let arguments = format!("iface=eth1,{}", ring_for(9000));
        let carries = packet_socket(&arguments, 9000).carries(Some(9000), BUFFER);
        assert_eq!(carries.map(|carries| carries.mtu), Ok(Some(9000)));
        let lower = packet_socket("iface=eth1", 9000).carries(Some(1500), BUFFER);
        assert_eq!(lower.map(|carries| carries.mtu), Ok(Some(1500)));
    }

    #[test]
    fn a_nic_scatters_long_frames_or_gets_longer_buffers() {
        for (scatters, asked, mtu, scatter, buffer) in [
            (true, None, 1500, false, 2048),
            (true, Some(9000), 9000, true, 2048),
            (false, Some(9000), 9000, false, 9022),
            (false, Some(1400), 1400, false, 2048),
        ] {
            let carries = nic(scatters).carries(asked, BUFFER);
            let expected = Carries {
                mtu: Some(mtu),
                configure: Some(mtu),
                scatter,
                buffer,
                cut_above: None,
            };
            assert_eq!(carries, Ok(expected), "{scatters} {asked:?}");
        }
        let error = nic(true).carries(Some(9711), BUFFER).expect_err("too much");
        assert!(error.to_string().contains("at most 9710 bytes"), "{error}");
    }

    #[test]
    fn vhost_and_virtio_have_no_limit_but_the_one_that_is_given() {
        for driver in ["net_vhost", "net_virtio_user"] {
            let device = Device {
                driver: driver.to_owned(),
                queues: 1,
                mtu: 1500,
                max_mtu: u16::MAX,
                ..Device::default()
            };
            for asked in [None, Some(9000)] {
                let carries = device.carries(asked, BUFFER).expect("any length");
                assert_eq!((carries.mtu, carries.configure), (asked, None), "{driver}");
                // This virtio device has no mergeable buffers.
                let long = asked.is_some() && driver == "net_virtio_user";
                assert_eq!(carries.buffer, if long { 9034 } else { BUFFER });
            }
        }
    }

    #[test]
    fn queues_that_nobody_would_poll_are_refused() {
        for (driver, queues, argument) in [
            ("net_vhost", 2, Some("queues=1")),
            ("net_vhost", 1, None),
            ("net_af_packet", 4, Some("qpairs=1")),
            ("net_af_xdp", 2, Some("queue_count=1")),
            ("net_pcap", 2, Some("rx_pcap")),
            // They enable as many queues as are polled.
            ("net_virtio_user", 2, None),
            ("net_tap", 16, None),
            ("net_ixgbe", 128, None),
            ("net_null", 1024, None),
        ] {
            let device = Device {
                driver: driver.to_owned(),
                queues,
                ..Device::default()
            };
            match (device.one_queue(), argument) {
                (Ok(()), None) => {}
                (Err(fault), Some(argument)) => {
                    let text = fault.to_string();
                    assert!(text.contains(argument) && !text.contains('\n'), "{text}");
                }
                (outcome, _) => panic!("{driver} {queues}: {outcome:?}"),
            }
        }
    }
}
