//! What differs from one of DPDK's drivers to the next and no capability shows: one row for each.

/// A driver that needs to be known by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Its name, as ethdev gives it.
    pub name: &'static str,
    /// Sends and receives frames of any length.
    pub any_length: bool,
    /// The argument that leaves one queue, where frames come in on all queues of the device, whatever the
    /// node polls. Other drivers make or enable as many queues as are polled.
    pub one_queue: Option<&'static str>,
    /// Gathers the segments of a frame, but does not say so.
    pub gathers: bool,
    /// Its peer leaves checksums to the port that transmits a frame.
    pub partial_checksums: bool,
    /// Its peer is given a long frame whole, its IP header included, so that segmentation needs no IPv4
    /// checksum.
    pub whole_segments: bool,
    /// It does offloads in software that knows no IPv6 segmentation.
    pub software_offloads: bool,
    /// It takes an MTU behind the configuration alone.
    pub late_mtu: bool,
}

impl Driver {
    /// One of which nothing special is known.
    const fn plain(name: &'static str) -> Self {
        Self {
            name,
            any_length: false,
            one_queue: None,
            gathers: false,
            partial_checksums: false,
            whole_segments: false,
            software_offloads: false,
            late_mtu: false,
        }
    }

    /// What is known of the driver with this name.
    pub fn of(name: &str) -> Self {
        let known = DRIVERS.iter().find(|driver| driver.name == name);
        known.copied().unwrap_or(Self::plain(""))
    }
}

const VIRTIO: Driver = Driver {
    any_length: true,
    partial_checksums: true,
    whole_segments: true,
    ..Driver::plain("net_virtio")
};

/// The drivers with something special.
const DRIVERS: &[Driver] = &[
    VIRTIO,
    Driver {
        name: "net_virtio_user",
        ..VIRTIO
    },
    Driver {
        any_length: true,
        one_queue: Some("queues=1"),
        partial_checksums: true,
        ..Driver::plain("net_vhost")
    },
    Driver {
        one_queue: Some("qpairs=1"),
        ..Driver::plain("net_af_packet")
    },
    Driver {
        one_queue: Some("queue_count=1"),
        ..Driver::plain("net_af_xdp")
    },
    Driver {
        any_length: true,
        one_queue: Some("one rx_pcap"),
        gathers: true,
        ..Driver::plain("net_pcap")
    },
    Driver {
        any_length: true,
        gathers: true,
        ..Driver::plain("net_null")
    },
    Driver {
        any_length: true,
        ..Driver::plain("net_ring")
    },
    Driver {
        software_offloads: true,
        late_mtu: true,
        ..Driver::plain("net_tap")
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_has_one_row_and_others_have_nothing_special() {
        for (at, driver) in DRIVERS.iter().enumerate() {
            assert_eq!(Driver::of(driver.name), *driver);
            assert_ne!(*driver, Driver::plain(driver.name), "needs no row");
            let others = &DRIVERS[at + 1..];
            assert!(others.iter().all(|other| other.name != driver.name));
        }
        assert_eq!(Driver::of("net_ixgbe"), Driver::plain(""));
    }
}
