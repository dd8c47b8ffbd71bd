//! Bytes that differ and that a mask rule covers.
//!
//! Nothing here runs while the VMs send the same. At a difference the rules look back over the bytes before it, as both
//! VMs have sent them: the SVM's are among the witnesses; the PVM's are in the P at hand and, before it, those of
//! the witnesses but for the bytes that were masked. Where one of them is not known any more the byte is not masked.

use super::Stream;
use super::witnesses::difference;
use crate::compare::Context;
use crate::compare::bytes::copy;
use crate::compare::hold::{Hold, ListKind, NIL, SlotId};
use crate::compare::mask::REACH;
use crate::compare::masked::{Candidate, MaskedByte};
use crate::compare::policy::Masking;
use crate::frame::Frame;
use crate::packet::serial::{at_or_before, before, max};

/// What the two VMs have sent up to a position, that included.
struct LookBack {
    p: [u8; REACH],
    s: [u8; REACH],
    /// Where the bytes begin; they go up to the end.
    from: usize,
}

impl Stream {
    /// The first of the bytes that differ between a P and a witness which no rule masks, if there is one. The range begins
    /// at position `at`, has `n` bytes, and differs at first in byte `first`. Masked bytes are counted, if all are.
    #[cold]
    #[inline(never)]
    pub(super) fn unmasked<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        p: SlotId,
        w: SlotId,
        at: u32,
        n: usize,
        first: usize,
    ) -> Option<usize> {
        if !cx.policy.masks() {
            return Some(first);
        }
        let again = self.compared_of(at, n);
        let mut next = Some(first);
        if first < again {
            // What was compared before leaves again only as it has left (rule R5).
            if let Some(k) = self.contradiction(cx, [p, w], at, again, first) {
                return Some(k);
            }
            next = difference_from(cx.hold, [p, w], at, n, again);
        }
        let mut tried = None;
        cx.masked.begin();
        while let Some(k) = next {
            match self.masking(cx, [p, w], at.wrapping_add(k as u32)) {
                Masking::Masked(_) => {}
                Masking::Tried(rule) => tried = tried.or(Some((k, rule))),
                Masking::None => return Some(tried.map_or(k, |(earlier, _)| earlier)),
            }
            next = difference_from(cx.hold, [p, w], at, n, k + 1);
        }
        if let Some((k, rule)) = tried {
            cx.policy.count_mask(rule);
            return Some(k);
        }
        let policy = &mut *cx.policy;
        self.masked = cx
            .masked
            .add_proposed(cx.flow, self.masked, |rule| policy.count_mask(rule));
        None
    }

    /// The first of the bytes that differ between an S and a witness, if the PVM has not sent them as the S has: the SVM,
    /// which has got the PVM's state with a commit, may repeat a masked byte so. Range as in [`Stream::unmasked`].
    #[cold]
    #[inline(never)]
    pub(super) fn unmasked_again<F: Frame>(
        &self,
        cx: &mut Context<'_, F>,
        s: SlotId,
        w: SlotId,
        at: u32,
        n: usize,
        first: usize,
    ) -> Option<usize> {
        if self.masked.is_none() {
            return Some(first);
        }
        self.contradiction(cx, [s, w], at, n, first)
    }

    /// The first of the bytes of a P that were masked when they left and that it repeats with another value (rule R5).
    /// That value may be the SVM's, so that no difference shows it.
    #[inline(always)]
    pub(super) fn changed<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        p: SlotId,
        at: u32,
        n: usize,
    ) -> Option<usize> {
        self.masked?;
        self.changed_of_masked(cx, p, at, n)
    }

    #[cold]
    #[inline(never)]
    fn changed_of_masked<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        p: SlotId,
        at: u32,
        n: usize,
    ) -> Option<usize> {
        let repeated = self.masked_from(cx, at, n);
        let changed =
            repeated.filter(|(_, byte)| byte_at(cx.hold, p, byte.position) != Some(byte.value));
        changed.last().map(|(k, _)| k)
    }

    /// Whether the PVM has sent this byte at a position, and it was masked.
    pub(super) fn has_masked<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        position: u32,
        value: u8,
    ) -> bool {
        let mut masked = self.masked_from(cx, position, 1);
        masked.any(|(_, byte)| byte.value == value)
    }

    /// How many of the `n` bytes from a position on were compared before.
    fn compared_of(&self, at: u32, n: usize) -> usize {
        match self.compared {
            Some((_, to)) if before(at, to) => n.min(to.wrapping_sub(at) as usize),
            _ => 0,
        }
    }

    /// The first of the bytes of a frame that differ from a witness and are not a masked byte as the PVM has sent it.
    /// The frame differs at first in byte `first`, and does so for good where the round has no more time for it.
    fn contradiction<F: Frame>(
        &self,
        cx: &mut Context<'_, F>,
        [id, w]: [SlotId; 2],
        at: u32,
        n: usize,
        first: usize,
    ) -> Option<usize> {
        if !cx.masked.may_ask(cx.now) {
            return Some(first);
        }
        let differs = |from, to| difference_from(cx.hold, [id, w], at, to, from);
        let (mut found, mut end, mut looked) = (None, n, 0);
        // From the last one back: what lies between two masked bytes is equal.
        for (k, byte) in self.masked_from(cx, at, n) {
            looked += 1;
            found = differs(k + 1, end).or(found);
            if byte_at(cx.hold, id, byte.position) != Some(byte.value) {
                found = differs(k, k + 1).or(found);
            }
            end = k;
        }
        found = differs(first.min(end), end).or(found);
        cx.masked.count_repeated(looked);
        found
    }

    /// The masked bytes among the `n` from a position on, from the last one back, each with its distance from there.
    fn masked_from<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        at: u32,
        n: usize,
    ) -> impl Iterator<Item = (usize, MaskedByte)> {
        let end = at.wrapping_add(n as u32);
        cx.masked
            .back_from(cx.flow, self.masked)
            .map_while(|byte| byte)
            .take_while(move |byte| !before(byte.position, at))
            .filter(move |byte| before(byte.position, end))
            .map(move |byte| (byte.position.wrapping_sub(at) as usize, byte))
    }

    /// What the rules say of a byte that differs and that is compared for the first time; one that is masked is proposed.
    fn masking<F: Frame>(
        &self,
        cx: &mut Context<'_, F>,
        [p, w]: [SlotId; 2],
        position: u32,
    ) -> Masking {
        let bytes = [p, w].map(|id| byte_at(cx.hold, id, position));
        let [Some(own), Some(other)] = bytes else {
            return Masking::None;
        };
        if !own.is_ascii_alphanumeric()
            || !other.is_ascii_alphanumeric()
            || !cx.masked.may_ask(cx.now)
        {
            return Masking::None;
        }
        let back = self.look_back(cx, p, w, position);
        let sent = [&back.p[back.from..], &back.s[back.from..]];
        let masking = cx.policy.masking(cx.key, cx.now, sent);
        if let Masking::Masked(rule) = masking {
            cx.masked.propose(Candidate {
                position,
                value: own,
                rule,
            });
        }
        masking
    }

    fn look_back<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        p: SlotId,
        w: SlotId,
        position: u32,
    ) -> LookBack {
        let mut back = LookBack {
            p: [0; REACH],
            s: [0; REACH],
            from: REACH,
        };
        let end = position.wrapping_add(1);
        back.take_secondary(cx.hold, w, end);
        let own = end.wrapping_sub(cx.hold.slot(p).seq) as usize;
        let split = REACH.saturating_sub(own).max(back.from);
        if !read(cx.hold, p, end, &mut back.p[split..]) {
            back.from = REACH;
            return back;
        }
        back.from = self.older(cx, p, split, &mut back);
        back
    }

    /// Gives the PVM's bytes before the P at hand, which end at `split`; returns where those that are known begin.
    fn older<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        p: SlotId,
        split: usize,
        back: &mut LookBack,
    ) -> usize {
        let seq = cx.hold.slot(p).seq;
        let Some((from, to)) = self.compared else {
            return split;
        };
        if back.from == split || !at_or_before(seq, to) || !before(from, seq) {
            return split;
        }
        let known = seq.wrapping_sub(from) as usize;
        let start = back.from.max(split.saturating_sub(known));
        back.p[start..split].copy_from_slice(&back.s[start..split]);
        let oldest = seq.wrapping_sub((split - start) as u32);
        for byte in cx.masked.back_from(cx.flow, self.masked) {
            let Some(byte) = byte else {
                // Which of the bytes were masked is not known any more.
                return split;
            };
            if before(byte.position, oldest) {
                break;
            }
            if before(byte.position, seq) {
                let ahead = seq.wrapping_sub(byte.position) as usize;
                back.p[split - ahead] = byte.value;
            }
        }
        start
    }
}

impl LookBack {
    /// Takes the SVM's bytes before `end` from a witness, which reaches to there, and from those before it.
    fn take_secondary<F: Frame>(&mut self, hold: &Hold<F>, mut w: SlotId, mut end: u32) {
        while self.from > 0 && w != NIL && at_or_before(end, hold.slot(w).end()) {
            let first = max(hold.slot(w).seq, end.wrapping_sub(self.from as u32));
            let n = end.wrapping_sub(first) as usize;
            if n == 0 || !read(hold, w, end, &mut self.s[self.from - n..self.from]) {
                return;
            }
            self.from -= n;
            end = first;
            w = hold.previous(ListKind::Flow, w);
        }
    }
}

/// Reads as many bytes as `out` has, of a frame in a slot, up to before position `end`.
fn read<F: Frame>(hold: &Hold<F>, id: SlotId, end: u32, out: &mut [u8]) -> bool {
    let slot = hold.slot(id);
    let first = end.wrapping_sub(out.len() as u32);
    let start = slot.payload as usize + first.wrapping_sub(slot.seq) as usize;
    copy(hold.frame(id), start, out)
}

fn byte_at<F: Frame>(hold: &Hold<F>, id: SlotId, position: u32) -> Option<u8> {
    let mut byte = [0];
    read(hold, id, position.wrapping_add(1), &mut byte).then_some(byte[0])
}

/// The first byte in which two slots differ, from byte `k` to before byte `n` behind a position.
fn difference_from<F: Frame>(
    hold: &Hold<F>,
    [a, b]: [SlotId; 2],
    at: u32,
    n: usize,
    k: usize,
) -> Option<usize> {
    let found = difference(hold, a, b, at.wrapping_add(k as u32), n - k)?;
    Some(k + found)
}
