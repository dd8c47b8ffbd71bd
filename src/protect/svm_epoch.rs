//! The epoch whose number the SVM's frames bear.
//!
//! In: epochs that the primary tells of, stops and starts of the SVM's ring, loads that its monitor reports. Out: the
//! number, whether the SVM is known to run that epoch, and whether it has loaded more states than epochs have come.

/// The SVM's epoch, and its loads since.
#[derive(Debug)]
pub(super) struct SvmEpoch {
    /// The last epoch that came.
    bound: Option<u32>,
    /// The SVM may have loaded a state whose epoch has not come yet.
    awaited: bool,
    /// Loads since the last epoch came, and the SVM's lead over that epoch then; -1 if its monitor had not
    /// reported that epoch's own load.
    loads: i32,
    ahead: i32,
}

impl SvmEpoch {
    /// None has come.
    pub(crate) fn new() -> Self {
        Self {
            bound: None,
            awaited: true,
            loads: 0,
            ahead: 0,
        }
    }

    /// The last epoch that came in this session.
    pub(crate) fn bound(&self) -> Option<u32> {
        self.bound
    }

    /// Whether the SVM has loaded no later state, as far as is known.
    pub(crate) fn is_known(&self) -> bool {
        !self.awaited && self.bound.is_some()
    }

    /// Whether the SVM has loaded more states than epochs have come.
    pub(crate) fn is_behind(&self) -> bool {
        self.ahead.saturating_add(self.loads) > 0
    }

    /// Another primary, or the same from the start.
    pub(crate) fn session(&mut self) {
        (self.bound, self.awaited, self.ahead) = (None, true, 0);
    }

    /// The SVM's ring has stopped.
    pub(crate) fn ring_stopped(&mut self) {
        self.awaited = true;
    }

    /// The SVM's ring runs. A reset of its driver, in which nothing was loaded, does not end the epoch.
    pub(crate) fn ring_runs(&mut self, loaded: bool) {
        self.awaited &= loaded;
    }

    /// The SVM has loaded a state.
    pub(crate) fn loaded(&mut self) {
        self.loads = self.loads.saturating_add(1);
    }

    /// What passed for its last load was none.
    pub(crate) fn unload(&mut self) {
        self.loads = self.loads.saturating_sub(1);
    }

    /// The SVM has loaded the state with which this epoch began, and perhaps a later one since. `unreported` says that
    /// it is not known to have loaded anything since its ring stopped: then its monitor is late.
    ///
    /// Each state that the SVM loads ends an epoch of the PVM's. If it has loaded more than epochs
    /// have come since the last one, the one that comes now is late; if that does not change with
    /// the next one, a stop was counted that loaded nothing.
    pub(crate) fn bind(&mut self, epoch: u32, unreported: bool) {
        let unreported = i32::from(unreported);
        let loads = std::mem::take(&mut self.loads);
        let before = std::mem::take(&mut self.ahead);
        self.ahead = match self.bound {
            None => -unreported,
            Some(last) => {
                let passed = i32::try_from(epoch.wrapping_sub(last)).unwrap_or(i32::MAX);
                let after = before.saturating_add(loads).saturating_sub(passed);
                match before <= 0 || after < before {
                    true => after.max(-unreported),
                    false => 0,
                }
            }
        };
        (self.bound, self.awaited) = (Some(epoch), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_comes_behind_a_second_load_is_late() {
        let mut epoch = SvmEpoch::new();
        epoch.bind(7, false);
        epoch.loaded();
        assert!(epoch.is_behind());
        epoch.bind(8, false);
        assert!(!epoch.is_behind());
        epoch.loaded();
        epoch.loaded();
        epoch.bind(9, false);
        assert!(epoch.is_behind(), "the second load's epoch has not come");
        epoch.bind(10, false);
        assert!(!epoch.is_behind());
    }

    #[test]
    fn a_stop_that_loaded_nothing_is_forgotten_with_the_second_epoch() {
        let mut epoch = SvmEpoch::new();
        epoch.bind(7, false);
        epoch.loaded();
        epoch.loaded();
        epoch.bind(8, false);
        assert!(epoch.is_behind());
        epoch.loaded();
        epoch.bind(9, false);
        assert!(!epoch.is_behind(), "the lead has not changed");
    }

    #[test]
    fn a_load_that_the_monitor_reports_behind_its_epoch_counts_once() {
        let mut epoch = SvmEpoch::new();
        epoch.bind(7, true);
        epoch.loaded();
        assert!(!epoch.is_behind());
    }

    #[test]
    fn a_load_that_was_none_leaves_no_lead_whether_an_epoch_came_meanwhile_or_not() {
        for late in [false, true] {
            let mut epoch = SvmEpoch::new();
            epoch.bind(7, false);
            if late {
                epoch.loaded();
            }
            epoch.loaded();
            assert!(epoch.is_behind());
            if late {
                epoch.bind(8, false);
            }
            epoch.unload();
            assert!(!epoch.is_behind());
        }
    }

    #[test]
    fn a_ring_that_runs_again_without_a_load_goes_on_in_its_epoch() {
        let mut epoch = SvmEpoch::new();
        epoch.bind(7, false);
        epoch.ring_stopped();
        assert!(!epoch.is_known());
        epoch.ring_runs(true);
        assert!(!epoch.is_known());
        epoch.ring_runs(false);
        assert!(epoch.is_known());
    }
}
