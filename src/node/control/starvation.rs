//! Whether the own cores get the CPU that they need, and the line that says so.

use std::time::Duration;

use crate::observability::counters::{Counter, Reader};
use crate::observability::log::Log;

/// Lost time in one look that is worth a line: clients notice it.
const WORTH_A_LINE: Duration = Duration::from_millis(50);

/// The lost time of a pair's cores that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Starvation {
    /// By core, in nanoseconds.
    seen: Vec<u64>,
}

impl Starvation {
    /// Says which of the cores, given with their lcores, has lost time since the last look.
    pub(crate) fn look(&mut self, cores: &[(u32, Reader)], pair: &str, log: &Log) {
        self.seen.resize(cores.len(), 0);
        for ((lcore, core), seen) in cores.iter().zip(&mut self.seen) {
            let lost = core.value(Counter::LostTime);
            let more = Duration::from_nanos(lost.saturating_sub(std::mem::replace(seen, lost)));
            if more >= WORTH_A_LINE {
                log.warning(
                    "cpu",
                    format_args!(
                        "pair {pair}: lcore {lcore} got no CPU for {} ms; give it a CPU of its own (--lcores, isolcpus), \
                         or let it sleep (--idle-sleep)",
                        more.as_millis()
                    ),
                );
            }
        }
    }
}
