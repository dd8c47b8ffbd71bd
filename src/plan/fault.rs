//! Why a node cannot use a port as it is, each fault with what would do.

use super::device::{BEFORE_PAYLOAD, INNER_TAG};

/// The longest `framesz` whose frames fit into an mbuf and that divides a block evenly.
const LONGEST_RING_FRAME: u32 = 32_768;

/// Why a node cannot use a port as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFault {
    /// Frames could come in on queues that no one polls.
    #[error(
        "its device has {queues} queues, of which a node polls one, and would lose the frames of the \
         others; give {argument} in its --vdev{}",
        if .argument == &"queues=1" { ", and let the guest have one queue pair" } else { "" }
    )]
    Queues {
        /// Queues of the device.
        queues: u16,
        /// The device's arguments that make it one.
        argument: &'static str,
    },
    /// The kernel's interface has a smaller MTU.
    #[error(
        "interface {interface} has an MTU of {has} bytes, --mtu asks for {asked}; set it with `ip link set \
         dev {interface} mtu {asked}`, or give a lower --mtu"
    )]
    Interface {
        /// Its name.
        interface: String,
        /// Its MTU.
        has: u32,
        /// The MTU asked for.
        asked: u16,
    },
    /// A frame of the socket's ring is too short.
    #[error(
        "framesz={has} of its --vdev holds an MTU of {holds} bytes, --mtu asks for {asked}; give {}, or a \
         lower --mtu",
        ring_for(*.asked)
    )]
    RingFrame {
        /// The ring's.
        has: u32,
        /// The MTU that it holds.
        holds: u16,
        /// The MTU asked for.
        asked: u16,
    },
    /// A frame of the socket's ring is longer than any mbuf.
    #[error(
        "framesz={has} of its --vdev is longer than an mbuf; give a framesz of at most {LONGEST_RING_FRAME}"
    )]
    RingFrameTooLong {
        /// The ring's.
        has: u32,
    },
    /// The driver has a limit.
    #[error(
        "{driver} takes an MTU of at most {most} bytes, --mtu asks for {asked}; give a lower --mtu, or another device"
    )]
    Driver {
        /// Its name.
        driver: String,
        /// Its limit.
        most: u16,
        /// The MTU asked for.
        asked: u16,
    },
}

/// Arguments of net_af_packet whose ring holds an MTU, as far as an mbuf can: a block must be a
/// multiple of a frame.
pub fn ring_for(mtu: u16) -> String {
    let frame = (u32::from(mtu) + BEFORE_PAYLOAD + INNER_TAG)
        .next_power_of_two()
        .min(LONGEST_RING_FRAME);
    format!("framesz={frame},blocksz={}", frame.max(65_536))
}
