//! A pair's figures, which the control thread and the telemetry thread share.

use std::time::Duration;

use super::facts::Facts;
use super::orders::UnderWay;
use crate::config::PairSettings;
use crate::observability::checkpoints::CheckpointTimes;
use crate::observability::counters::{self, Counter, Snapshot};
use crate::observability::latency::{self, Recorder, Set};
use crate::observability::summary::{self, MonitorSummary, PairSummary, RecordSummary};

/// A pair's figures, shared with the telemetry thread.
pub(crate) struct Figures {
    pub(super) settings: PairSettings,
    /// By lcore: first the core that polls the ports, then those that compare with it.
    pub(super) cores: Vec<(u32, counters::Reader)>,
    pub(super) latencies: latency::Reader,
    /// What the control thread measures itself.
    pub(super) own: Set,
    pub(super) checkpoints: CheckpointTimes,
    pub(super) monitor: Option<MonitorSummary>,
    pub(super) records: Option<RecordSummary>,
    pub(super) facts: Facts,
    pub(super) orders: Vec<UnderWay>,
}

/// A pair's figures of one moment, for a thread that makes their tree without holding up the others.
pub(crate) struct FiguresCopy {
    settings: PairSettings,
    cores: Vec<(u32, Snapshot)>,
    latencies: Set,
    checkpoints: CheckpointTimes,
    monitor: Option<MonitorSummary>,
    records: Option<RecordSummary>,
}

impl FiguresCopy {
    /// The tree.
    pub(crate) fn summary(&self, elapsed: Duration) -> PairSummary {
        let mut summary = PairSummary::new(summary::Figures {
            pair: &self.settings,
            elapsed,
            cores: &self.cores,
            latencies: &self.latencies,
            checkpoints: &self.checkpoints,
        });
        summary.monitor = self.monitor;
        summary.records = self.records;
        summary
    }
}

impl Figures {
    /// The figures of this moment.
    pub(crate) fn copy(&self) -> FiguresCopy {
        let mut latencies = self.latencies.total().clone();
        latencies.merge(&self.own);
        let cores = self.cores.iter();
        FiguresCopy {
            settings: self.settings.clone(),
            cores: cores
                .map(|(lcore, counters)| (*lcore, counters.snapshot()))
                .collect(),
            latencies,
            checkpoints: self.checkpoints.clone(),
            monitor: self.monitor,
            records: self.records,
        }
    }

    /// Its cores' lcores, each with the number of rounds that the core has finished.
    pub(crate) fn rounds(&self) -> impl Iterator<Item = (u32, u64)> {
        let rounds = |core: &counters::Reader| core.value(Counter::Polls);
        self.cores
            .iter()
            .map(move |(lcore, core)| (*lcore, rounds(core)))
    }

    /// Shows what becomes of records, of which there is none yet.
    pub(crate) fn show_records(&mut self) {
        self.records = Some(RecordSummary::default());
    }

    /// Shows the compare timeout that is in force from now on.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.settings.compare_timeout = timeout;
    }

    /// Takes in what the poll core has recorded.
    pub(crate) fn collect(&mut self) {
        self.latencies.collect();
    }

    /// Takes in the rest, after the poll core has ended.
    pub(crate) fn finish(&mut self, recorder: &mut Recorder) {
        self.latencies.finish(recorder);
    }
}
