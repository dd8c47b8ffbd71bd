//! What an operator sees: counters, latencies, the table, the summary, divergence records, the log.
//!
//! Two things cross from a poll core to the control threads, neither with a lock or an allocation:
//! [`counters`], a block of words that the poll core stores and any thread loads, and [`latency`],
//! whole histograms that change hands. All else here runs on control threads, where allocating,
//! formatting and system calls are allowed. A [`summary::PairSummary`] is the one tree of figures;
//! the `--summary` file, the telemetry command, the [`table`] and the [`openmetrics`] text are
//! four ways to write it.

#![warn(unreachable_pub)]

pub(crate) mod atomic_file;
pub mod capture;
pub mod checkpoints;
pub mod counters;
mod headers;
pub mod latency;
pub mod log;
pub mod openmetrics;
pub mod outlet;
mod pcapng;
pub mod port_capture;
pub(crate) mod private;
pub mod report;
mod rfc3339;
pub mod summary;
pub mod table;
pub mod telemetry;
