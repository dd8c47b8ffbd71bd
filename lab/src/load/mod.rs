//! Clients that live as long as the service does: each keeps asking, checks every byte that comes back, and
//! notes how long it had to wait for one.
//!
//! In: the client's namespace, which clients there are. Out: for each client its [`Record`]: bytes,
//! connections, wrong bytes, resets, and the longest silence. A client whose connection fails opens
//! another one, which shows whether service came back; the failure stays in its record.

mod client;
mod tape;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use client::Client;
pub use tape::{Record, Tape};

use crate::disk::Written;
use crate::error::LabError;
use crate::interrupt;
use crate::net::ClientNet;

/// What the clients of a load with this seed know to be on the guest's disk, by their records.
pub fn written(clients: &[Client], seed: u64, records: &[Record]) -> Vec<Written> {
    let each = clients.iter().zip(records).enumerate();
    each.filter_map(|(number, (client, record))| {
        Some(Written {
            writer: client.writer(seed.wrapping_add(number as u64))?,
            acknowledged: record.answers,
        })
    })
    .collect()
}

/// Running clients; dropped, they have ended.
#[derive(Debug)]
pub struct Load {
    tapes: Vec<Arc<Tape>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), LabError>>>,
}

impl Load {
    /// Starts one thread per client in the namespace of `net`; `seed` varies what they send.
    ///
    /// # Errors
    /// [`LabError::Namespace`].
    pub fn start(net: &ClientNet, clients: &[Client], seed: u64) -> Result<Self, LabError> {
        let mut load = Self {
            tapes: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for (number, &client) in clients.iter().enumerate() {
            let stop = Arc::clone(&load.stop);
            let tape = Arc::new(Tape::new(client.to_string(), client.opens(), stop));
            let (namespace, shared) = (net.handle()?, Arc::clone(&tape));
            let seed = seed.wrapping_add(number as u64);
            load.threads.push(std::thread::spawn(move || {
                namespace.enter()?;
                client.run(&shared, seed);
                Ok(())
            }));
            load.tapes.push(tape);
        }
        Ok(load)
    }

    /// Begins a new measurement: silences count from here, and what has come before does not.
    pub fn mark(&self) {
        for tape in &self.tapes {
            tape.mark();
        }
    }

    /// Service is to come back from now on: the first bytes count from here.
    pub fn order(&self) {
        for tape in &self.tapes {
            tape.order();
        }
    }

    /// As [`Load::order`], for another thread to call.
    pub fn order_from_elsewhere(&self) -> impl FnOnce() + Send + 'static {
        let tapes = self.tapes.clone();
        move || tapes.iter().for_each(|tape| tape.order())
    }

    /// What each client has seen since the last mark.
    pub fn records(&self) -> Vec<Record> {
        self.tapes.iter().map(|tape| tape.record()).collect()
    }

    /// Waits until every client has got `answers` more whole answers than now.
    ///
    /// # Errors
    /// [`LabError::Late`] with the names of those that have not, [`LabError::Interrupted`].
    pub fn wait_answers(&self, answers: u64, limit: Duration) -> Result<(), LabError> {
        let before: Vec<u64> = self.records().iter().map(|record| record.answers).collect();
        let end = Instant::now() + limit;
        loop {
            interrupt::check()?;
            let waiting: Vec<String> = self
                .records()
                .into_iter()
                .zip(&before)
                .filter(|(record, before)| record.answers < *before + answers)
                .map(|(record, _)| record.name)
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(LabError::Late {
                    what: format!("an answer for {}", waiting.join(", ")),
                    seconds: limit.as_secs(),
                    tail: String::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends all clients and returns their last records.
    pub fn finish(mut self) -> Vec<Record> {
        self.end();
        self.records()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}
