//! One port with its queues in use by this thread, and why it may fail.

use std::collections::VecDeque;

use dpdk_colo::Offload;
use dpdk_colo::dpdk::{
    Burst, EalError, Headers, Mempool, MempoolError, Port, PortConfig, PortError, RxPoller,
    Transport, TxPoller,
};
use dpdk_colo::packet::{Kind, Packet};

/// Why the traffic ended.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// DPDK does not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// No memory for frames.
    #[error(transparent)]
    Pool(#[from] MempoolError),
    /// A port cannot be had, started or stopped.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A line of the script that says nothing.
    #[error("standard input: {0:?} is no command; say `send N HEX`, `start N` or `stop N`")]
    Script(String),
    /// Standard input or output, or the signals.
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
    /// The node let something leave that the primary did not send, or not there.
    #[error("run {run}, flow {flow}, byte {offset}: {what}")]
    Wrong {
        /// The run that the frame belongs to.
        run: u32,
        /// The flow.
        flow: u32,
        /// Offset in the flow's stream.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A frame left that is nobody's.
    #[error("a frame of {0} bytes left that no run sent")]
    Foreign(usize),
    /// Nothing has left for long.
    #[error("nothing leaves any more: {released} of {bytes} bytes have left")]
    Stuck {
        /// Bytes that left.
        released: u64,
        /// Bytes that were to leave.
        bytes: u64,
    },
}

/// A port, while it is there, and what waits to be sent through it.
pub struct Line {
    port: Option<Port>,
    queues: Option<(RxPoller, TxPoller)>,
    pool: Mempool,
    /// Frames that have no mbuf yet.
    waiting: VecDeque<(Vec<u8>, Offload)>,
    /// Frames that the port has not taken yet.
    pub out: Burst,
}

impl Line {
    /// Without a port.
    pub fn new(pool: &Mempool) -> Self {
        Self {
            port: None,
            queues: None,
            pool: pool.clone(),
            waiting: VecDeque::new(),
            out: Burst::new(),
        }
    }

    /// Starts a port, with what it can do for frames that ask.
    pub fn start(&mut self, mut port: Port, offloads: bool) -> Result<(), PortError> {
        let mut queues = port.start(&PortConfig {
            offloads,
            ..PortConfig::new(&self.pool)
        })?;
        let (rx, tx) = (queues.rx.swap_remove(0), queues.tx.swap_remove(0));
        self.queues = Some((rx.enable(), tx.enable()));
        self.port = Some(port);
        Ok(())
    }

    /// Stops and closes the port.
    pub fn stop(&mut self) -> Result<(), PortError> {
        self.queues = None;
        match self.port.take() {
            Some(port) => port.close().map_err(|(_, error)| error),
            None => Ok(()),
        }
    }

    /// Sends a frame when the port takes it.
    pub fn send(&mut self, frame: Vec<u8>, offload: Offload) {
        self.waiting.push_back((frame, offload));
    }

    /// Frames that have no mbuf yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Gives the port what waits; returns how many frames it took.
    pub fn flush(&mut self) -> usize {
        while !self.out.is_full()
            && let Some((bytes, offload)) = self.waiting.front()
            && let Some(mut frame) = self.pool.copy_of(bytes)
        {
            if let Some(headers) = headers(bytes) {
                // It is this line's own.
                let _ = frame.request(headers, *offload);
            }
            self.waiting.pop_front();
            // The burst has room.
            let _ = self.out.push(frame);
        }
        match &mut self.queues {
            Some((_, tx)) if !self.out.is_empty() => tx.tx(&mut self.out),
            _ => 0,
        }
    }

    /// Takes frames from the port into an empty burst.
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        match &mut self.queues {
            Some((rx, _)) => rx.rx(burst),
            None => 0,
        }
    }
}

/// Where the headers of a TCP or UDP frame lie.
fn headers(frame: &[u8]) -> Option<Headers> {
    let packet = Packet::parse(frame, frame.len());
    let protocol = match packet.kind {
        Kind::Tcp => Transport::Tcp,
        Kind::Udp => Transport::Udp,
        _ => return None,
    };
    Some(Headers {
        link: packet.l3 as u8,
        network: packet.l4 - packet.l3,
        transport: (packet.payload - packet.l4) as u8,
        ipv6: packet.key.src_ip()?.is_ipv6(),
        protocol,
    })
}
