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
    /// The monitor has been there throughout them.
    watched: bool,
    /// The last stop passes for a load's without the monitor's word, and was the only unexplained one.
    presumed: bool,
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
        self.presumed = false;
        self.cut_off += cut_off;
        (self.started, self.loaded) = (false, false);
    }

    /// The monitor is gone.
    pub(crate) fn disconnected(&mut self) {
        self.watched = false;
    }

    /// The monitor answers again.
    pub(crate) fn connected(&mut self) {
        self.watched |= self.unexplained == 0;
    }

    /// Its last stop has ended, as the VM's monitor says; with `taken_over` it was the one of the takeover, which
    /// loads nothing. Returns whether one that the monitor has missed was for a load, as far as anybody can know.
    pub(crate) fn explain(&mut self, taken_over: bool) -> bool {
        let missed = !self.watched && self.unexplained > u32::from(taken_over);
        (self.unexplained, self.watched, self.presumed) = (0, true, false);
        missed
    }

    /// It runs, and no monitor says what it has stopped for; `taken_over` as in [`SvmRing::explain`]. Returns whether
    /// that was for a load, presumably: it was for none if the monitor has explained its last stop before.
    pub(crate) fn presume(&mut self, taken_over: bool) -> bool {
        let load = self.unexplained > u32::from(taken_over);
        // Another stop behind a start of this kind has cleared it.
        self.presumed |= load && self.unexplained == 1;
        self.unexplained = 0;
        load
    }

    /// Its last stop was the takeover's. Returns whether it passed for a load's by presumption.
    pub(crate) fn refute_presumption(&mut self) -> bool {
        std::mem::take(&mut self.presumed)
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
    fn a_presumption_concerns_the_only_stop_that_the_monitor_did_not_explain() {
        let mut ring = SvmRing::default();
        ring.disconnected();
        ring.stopped(0);
        assert!(ring.presume(false));
        assert!(!ring.presume(false), "it is explained");
        assert!(ring.refute_presumption());
        assert!(!ring.refute_presumption(), "it is asked once");

        ring.stopped(0);
        ring.stopped(0);
        assert!(ring.presume(false));
        assert!(!ring.refute_presumption(), "one of two was for a load");

        ring.stopped(0);
        assert!(ring.presume(false));
        ring.stopped(0);
        assert!(!ring.refute_presumption(), "the one behind it is another");
    }

    #[test]
    fn a_stop_that_the_monitor_missed_was_for_a_load_unless_it_was_a_takeovers() {
        for (stops, taken_over, load) in [
            (0, false, false),
            (1, false, true),
            (1, true, false),
            (2, true, true),
        ] {
            let mut ring = SvmRing::default();
            ring.disconnected();
            (0..stops).for_each(|_| ring.stopped(0));
            ring.connected();
            assert_eq!(ring.explain(taken_over), load, "{stops} {taken_over}");
            ring.stopped(0);
            assert!(!ring.explain(false), "the monitor was there");
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
