//! A secondary's VM that was given up for good: whatever QEMU does with it, it never leads (rule R6).
//!
//! In: the order, whether the VM is chosen at that moment. Out: whether it is made, and what the control thread has to
//! know. `docs/unprotect.md` has the order of the steps.

use super::cession::CessionNews;

/// The secondary's end.
#[derive(Debug, Default)]
pub(super) struct OwnRenunciation {
    made: bool,
    news: Option<CessionNews>,
}

impl OwnRenunciation {
    /// It is made, unless the VM is `chosen`.
    pub(super) fn make(&mut self, chosen: bool) {
        self.made |= !chosen;
        self.news = Some(match chosen {
            true => CessionNews::IsChosen,
            false => CessionNews::Renounced,
        });
    }

    /// A node before this one has made it.
    pub(super) fn inherit(&mut self) {
        self.made = true;
    }

    /// Nobody has heard of it, or the other VM certainly sends nothing.
    pub(super) fn take_back(&mut self) {
        *self = Self::default();
    }

    /// Whether the VM never leads.
    pub(super) fn is_made(&self) -> bool {
        self.made
    }

    /// What the control thread does not know yet.
    pub(super) fn next_news(&mut self) -> Option<CessionNews> {
        self.news.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_is_chosen_is_not_given_up() {
        let mut own = OwnRenunciation::default();
        own.make(true);
        assert!(!own.is_made());
        assert_eq!(own.next_news(), Some(CessionNews::IsChosen));
        own.make(false);
        assert!(own.is_made());
        assert_eq!(own.next_news(), Some(CessionNews::Renounced));
        assert_eq!(own.next_news(), None);
        own.make(true);
        assert!(own.is_made(), "what QEMU does later changes nothing");
        own.take_back();
        assert!(!own.is_made());
        own.inherit();
        assert!(own.is_made());
    }
}
