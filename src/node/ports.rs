//! Opening the ports of a pair and the pools that their frames come from.

use super::NodeError;
use super::lane::Queues;
use crate::config::{Place, PortName};
use crate::dpdk::{Eal, Mempool, MempoolConfig, Port, PortConfig};

/// Bytes of an mbuf's buffer: headroom for the link's header, and a frame of 1518 bytes behind it.
const DATA_ROOM: u16 = 2176;
/// Bytes of the buffers for headers and the link's own frames.
const HEADER_ROOM: u16 = 512;
/// Mbufs cached per lcore.
const CACHE: u32 = 256;
/// With fewer a port cannot even fill its rings.
const LEAST: u32 = 1024;
/// Mbufs for the headers and slices of frames that are cut: some fifteen frames of 64 KB on their
/// way at a time.
const CUTTING: usize = 2048;

/// What has to be closed at the end, in this order: ports, then nothing else.
pub struct Hardware {
    ports: Vec<Port>,
    /// For cutting frames of the pair whose ports are being opened.
    cutting: Option<Mempool>,
    /// The pools, for the count at the end.
    pub pools: Vec<(String, Mempool)>,
}

impl Hardware {
    /// Nothing is open.
    pub fn new() -> Self {
        Self {
            ports: Vec::new(),
            cutting: None,
            pools: Vec::new(),
        }
    }

    /// Begins with a pair: makes the small pool from which its ports cut frames, before its large
    /// ones take what memory there is.
    pub fn begin_pair(&mut self, eal: &Eal, number: usize) -> Result<(), NodeError> {
        self.cutting = Some(self.headers(eal, format!("{number}.cutting"), CUTTING)?);
        Ok(())
    }

    /// A pool for frames, of the wanted size or as large as memory allows.
    pub fn frames(&mut self, eal: &Eal, name: String, wanted: usize) -> Result<Mempool, NodeError> {
        self.pool(eal, name, wanted, LEAST, DATA_ROOM)
    }

    /// A pool for headers and the link's own frames.
    pub fn headers(
        &mut self,
        eal: &Eal,
        name: String,
        wanted: usize,
    ) -> Result<Mempool, NodeError> {
        self.pool(eal, name, wanted, LEAST, HEADER_ROOM)
    }

    fn pool(
        &mut self,
        eal: &Eal,
        name: String,
        wanted: usize,
        least: u32,
        data_room: u16,
    ) -> Result<Mempool, NodeError> {
        let config = MempoolConfig {
            name: &name,
            mbufs: u32::try_from(wanted).unwrap_or(u32::MAX),
            cache: CACHE,
            data_room,
            socket: None,
        };
        let pool = Mempool::largest(eal, &config, least)?;
        self.pools.push((name, pool.clone()));
        Ok(pool)
    }

    /// Takes a port and starts it with one queue each way, with offloads but on the link, whose
    /// frames are nobody else's.
    pub fn open(
        &mut self,
        eal: &Eal,
        place: Place,
        name: &PortName,
        pool: &Mempool,
    ) -> Result<Queues, NodeError> {
        let failed = |source| NodeError::Port {
            place: place.key(),
            name: name.as_str().to_owned(),
            source,
        };
        let names = Port::names(eal);
        if !names.iter().any(|known| known == name.as_str()) {
            let known = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            return Err(NodeError::UnknownPort {
                place: place.key(),
                name: name.as_str().to_owned(),
                known,
            });
        }
        let mut port = Port::by_name(eal, name.as_str()).map_err(failed)?;
        let config = PortConfig {
            offloads: place != Place::Link,
            ..PortConfig::new(pool)
        };
        let mut queues = port.start(&config).map_err(failed)?;
        port.receive_all();
        let (rx, tx) = (queues.rx.swap_remove(0), queues.tx.swap_remove(0));
        // The link's frames have no tags, which the port's limit allows for.
        let is_link = place == Place::Link;
        let longest = port
            .longest_frame()
            .map(|longest| longest - if is_link { 8 } else { 0 });
        let cutting = match place {
            Place::Link if longest.is_none() => None,
            Place::Uplink | Place::Out | Place::Link => self.cutting.clone(),
            _ => None,
        };
        let abilities = port.abilities();
        self.ports.push(port);
        Ok(Queues {
            rx,
            tx,
            abilities,
            longest,
            cutting,
            is_link,
            source: matches!(place, Place::Guest | Place::PrimaryIn | Place::SecondaryIn)
                .then(|| pool.clone()),
        })
    }

    /// The port opened last.
    pub fn last(&self) -> Option<&Port> {
        self.ports.last()
    }

    /// Stops and closes all ports.
    pub fn close(&mut self) {
        for port in self.ports.drain(..) {
            // A port that does not close goes with the process.
            let _ = port.close();
        }
    }
}
