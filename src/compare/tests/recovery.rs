//! What waits for the recovery of the other VM's connection from loss.

use super::*;

/// A P of the connection at `port`.
fn of_port(port: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    packets::tcp(&ends(port), &segment(seq, 1, payload), 0)
}

impl Pair {
    /// The SVM repeats what has left, first after `gap` and then after twice the interval before.
    fn repeats(&mut self, gap: Ticks, times: usize) {
        let mut gap = gap;
        for _ in 0..times {
            self.now += gap - 1;
            self.s(&data(1000, b"abc"));
            gap *= 2;
        }
    }

    /// What is overdue now, as far as one call looks.
    fn overdue_now(&mut self) -> Option<Reason> {
        let now = self.now;
        self.comparator.overdue(now).map(|d| d.reason)
    }

    /// The same, in as many calls as that takes.
    fn overdue_soon(&mut self) -> Option<Reason> {
        (0..LIMITS.primary).find_map(|_| self.overdue_now())
    }
}

/// A pair whose client has `abc`, and of which the PVM has sent more.
fn ahead() -> Pair {
    let mut pair = Pair::new();
    pair.both(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.p(&data(1003, b"ahead"));
    pair
}

#[test]
fn new_data_of_the_secondary_waits_while_the_primary_s_timer_backs_off() {
    let mut pair = Pair::new();
    pair.both(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.s(&data(1003, b"ahead"));
    let mut gap = TIMEOUT / 4;
    for _ in 0..4 {
        pair.now += gap;
        assert_eq!(pair.overdue_now(), None);
        pair.p(&data(1000, b"abc"));
        assert_eq!(pair.left(), 1);
        gap *= 2;
    }
    pair.now += gap + TIMEOUT;
    assert_eq!(pair.overdue_now(), None);
    pair.now += TIMEOUT;
    let reason = pair.overdue_now();
    assert_eq!(reason, Some(Reason::MissingPrimary), "the PVM has given up");
}

#[test]
fn a_p_waits_while_the_secondary_s_timer_backs_off() {
    let mut pair = ahead();
    pair.repeats(TIMEOUT / 2, 2);
    assert_eq!(pair.overdue_now(), None, "it has waited for 1.5 timeouts");
    pair.now += TIMEOUT;
    assert_eq!(pair.overdue_now(), None);
    pair.s(&data(1003, b"ahead"));
    assert_eq!((pair.left(), pair.overdue()), (1, None));
    assert_eq!(pair.report(), None);
    assert!(pair.comparator.counts().excused > 0);
}

#[test]
fn a_p_waits_no_longer_than_the_next_retransmission_takes() {
    let mut pair = ahead();
    pair.repeats(TIMEOUT / 4, 2);
    // It comes after twice the interval, which is half a timeout, and the timeout's time more.
    pair.now += 2 * TIMEOUT - 1;
    assert_eq!(pair.overdue_now(), None);
    pair.now += TIMEOUT / 16;
    assert_eq!(pair.overdue_now(), Some(Reason::MissingSecondary));
}

#[test]
fn a_p_waits_no_longer_than_four_timeouts() {
    let mut pair = ahead();
    let came = pair.now;
    while pair.now + TIMEOUT / 4 < came + 4 * TIMEOUT {
        pair.repeats(TIMEOUT / 4, 1);
        assert_eq!(pair.overdue_now(), None, "after {}", pair.now - came);
    }
    pair.repeats(TIMEOUT / 4, 1);
    assert_eq!(pair.overdue_now(), Some(Reason::MissingSecondary));
    // A checkpoint ends the wait; the next one is judged anew.
    pair.checkpoint();
    assert_eq!((pair.left(), pair.overdue()), (1, None));
}

#[test]
fn a_p_without_a_recovery_is_overdue_at_the_timeout() {
    // Of the SVM nothing is known but that it repeated something long ago.
    let mut pair = Pair::new();
    pair.both(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.repeats(TIMEOUT / 2, 2);
    pair.now += 10 * TIMEOUT;
    pair.p(&data(1003, b"ahead"));
    assert_eq!(pair.overdue(), Some(Reason::MissingSecondary));
}

#[test]
fn a_p_that_waits_for_an_acknowledgment_is_not_excused() {
    let mut pair = ahead();
    pair.p(&tcp(&segment(1008, 2, b"acknowledges")));
    let came = pair.now;
    pair.repeats(TIMEOUT / 2, 2);
    pair.now = came + TIMEOUT;
    // The oldest one is excused, the one behind it lacks more than bytes.
    assert_eq!(pair.overdue_soon(), Some(Reason::MissingSecondary));
}

#[test]
fn an_excused_p_hides_no_other_connection_s() {
    for many in [1, 31, 32, 33, 50] {
        let mut pair = Pair::new();
        pair.both(&data(1000, b"abc"));
        pair.both(&of_port(81, 1000, b"xyz"));
        assert_eq!(pair.left(), 2);
        for n in 0..many {
            pair.p(&data(1003 + 5 * n, b"ahead"));
        }
        let since = pair.now;
        pair.p(&of_port(81, 1003, b"late"));
        pair.repeats(TIMEOUT / 2, 1);
        pair.now = since + TIMEOUT;
        assert_eq!(pair.overdue_soon(), None, "{many}");
        let waits = pair.comparator.oldest_primary().expect("it waits");
        assert_eq!(waits, since + 1, "{many}");
        pair.now += 1;
        assert_eq!(pair.overdue_now(), Some(Reason::MissingSecondary), "{many}");
        pair.s(&of_port(81, 1003, b"late"));
        assert_eq!((pair.left(), pair.overdue_soon()), (1, None), "{many}");
        // The excuse ends.
        pair.now += 4 * TIMEOUT;
        assert!(pair.comparator.oldest_primary() <= Some(pair.now - TIMEOUT));
        assert_eq!(
            pair.overdue_soon(),
            Some(Reason::MissingSecondary),
            "{many}"
        );
    }
}

#[test]
fn an_excused_p_that_has_left_hides_none_behind_it() {
    let mut pair = ahead();
    pair.p(&of_port(81, 1000, b"late"));
    let since = pair.now;
    pair.repeats(TIMEOUT / 2, 1);
    pair.now = since + TIMEOUT - 1;
    assert_eq!(pair.overdue_now(), None);
    pair.comparator
        .secondary(HeapFrame::new(&data(1003, b"ahead")), pair.now);
    assert_eq!(pair.left(), 1);
    // Another frame gets the slot.
    pair.comparator
        .primary(HeapFrame::new(&data(1008, b"next")), pair.now)
        .expect("room");
    pair.now = since + TIMEOUT;
    assert_eq!(pair.overdue_now(), Some(Reason::MissingSecondary));
}

#[test]
fn nothing_is_excused_while_nothing_is_compared() {
    let mut pair = ahead();
    pair.repeats(TIMEOUT / 2, 2);
    assert_eq!(pair.overdue_now(), None);
    pair.comparator.suspend();
    assert_eq!(pair.overdue_now(), Some(Reason::MissingSecondary));
}
