//! The SVM's ring: whether it runs, and whether the SVM has loaded a state since it stopped.
//!
//! In: stops of the ring with the input that it did not take, what the monitor says of the VM behind them. Out: whether
//! the ring runs, and input that turns out to be lost: a load brings what the PVM made of it, no other stop does.

/// The ring and its last stop.
#[derive(Debug, Default)]
pub(super) struct SvmRing {
    /// Stops so far.
    stops: u32,
    /// Stops that no RESUME has ended.
    unexplained: u32,
    /// It runs.
    started: bool,
    /// A state was loaded since it stopped.
    loaded: bool,
    /// The SVM has had a state of the PVM's.
    ran: bool,
    /// Input that it did not take before it stopped.
    cut_off: usize,
}

impl SvmRing {
    /// Stops so far.
    pub(crate) fn stops(&self) -> u32 {
        self.stops
    }

    /// Whether it runs.
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Whether the SVM has loaded a state since the ring stopped last.
    pub(crate) fn has_loaded(&self) -> bool {
        self.loaded
    }

    /// Whether the SVM has had a state of the PVM's.
    pub(crate) fn has_run(&self) -> bool {
        self.ran
    }

    /// It has stopped before it took these input frames.
    pub(crate) fn stopped(&mut self, cut_off: usize) {
        self.stops = self.stops.wrapping_add(1);
        self.unexplained += 1;
        self.cut_off += cut_off;
        (self.started, self.loaded) = (false, false);
    }

    /// Whether it has stopped more often than RESUME or these `certain` stops tell.
    pub(crate) fn is_unexplained(&self, certain: u32) -> bool {
        self.unexplained > certain
    }

    /// Its last stop has ended, as the VM's monitor says or nobody can.
    pub(crate) fn explain(&mut self) {
        self.unexplained = 0;
    }

    /// The SVM has loaded a state.
    pub(crate) fn load(&mut self) {
        (self.loaded, self.ran) = (true, true);
    }

    /// It runs. Returns how many input frames the SVM lacks: those that were cut off, unless it has loaded a state since.
    pub(crate) fn start(&mut self) -> usize {
        (self.started, self.ran) = (true, true);
        let cut_off = std::mem::take(&mut self.cut_off);
        if self.loaded { 0 } else { cut_off }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_load_makes_up_for_input_that_was_cut_off() {
        for (loads, lost) in [(true, 0), (false, 5)] {
            let mut ring = SvmRing::default();
            ring.stopped(2);
            ring.stopped(3);
            if loads {
                ring.load();
            }
            assert_eq!((ring.start(), ring.start()), (lost, 0));
            assert!(ring.is_started());
        }
    }

    #[test]
    fn a_stop_forgets_the_load_before_it() {
        let mut ring = SvmRing::default();
        ring.load();
        ring.stopped(1);
        assert!(!ring.has_loaded() && !ring.is_started());
        assert_eq!(ring.start(), 1);
    }
}
