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
use crate::compare::masked::MaskedByte;
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

/// What becomes of a byte that differs.
enum Finding {
    Differs,
    /// A rule that is tried would mask it.
    Tried(usize),
    Masked(usize),
    /// It was masked when it was compared for the first time, and the PVM repeats it.
    Again,
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
        let mut tried = None;
        let mut next = Some(first);
        while let Some(k) = next {
            match self.finding(cx, p, w, at.wrapping_add(k as u32)) {
                Finding::Masked(_) | Finding::Again => {}
                Finding::Tried(rule) => tried = tried.or(Some((k, rule))),
                Finding::Differs => return Some(tried.map_or(k, |(earlier, _)| earlier)),
            }
            next = difference_behind(cx.hold, [p, w], at, n, k);
        }
        if let Some((k, rule)) = tried {
            cx.policy.count_mask(rule);
            return Some(k);
        }
        let mut next = Some(first);
        while let Some(k) = next {
            let position = at.wrapping_add(k as u32);
            if let Finding::Masked(rule) = self.finding(cx, p, w, position) {
                cx.policy.count_mask(rule);
                self.masked = cx.masked.push(MaskedByte {
                    flow: cx.flow,
                    position,
                    value: byte_at(cx.hold, p, position).unwrap_or_default(),
                    before: self.masked,
                });
            }
            next = difference_behind(cx.hold, [p, w], at, n, k);
        }
        None
    }

    /// The same of an S and a witness: the SVM, which has got the PVM's state with a commit, may repeat a masked byte as
    /// the PVM has sent it.
    #[cold]
    #[inline(never)]
    pub(super) fn unmasked_again<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        s: SlotId,
        w: SlotId,
        at: u32,
        n: usize,
        first: usize,
    ) -> Option<usize> {
        let mut next = Some(first);
        while let Some(k) = next {
            let position = at.wrapping_add(k as u32);
            let own = byte_at(cx.hold, s, position);
            if own.is_none() || self.masked_value(cx, position) != own {
                return Some(k);
            }
            next = difference_behind(cx.hold, [s, w], at, n, k);
        }
        None
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
        let end = at.wrapping_add(n as u32);
        let (mut first, mut number) = (None, self.masked);
        while let Some(byte) = number.and_then(|number| cx.masked.get(cx.flow, number)) {
            if before(byte.position, at) {
                break;
            }
            let is_within = before(byte.position, end);
            if is_within && byte_at(cx.hold, p, byte.position) != Some(byte.value) {
                first = Some(byte.position.wrapping_sub(at) as usize);
            }
            number = byte.before;
        }
        first
    }

    fn finding<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        p: SlotId,
        w: SlotId,
        position: u32,
    ) -> Finding {
        let bytes = [p, w].map(|id| byte_at(cx.hold, id, position));
        let [Some(own), Some(other)] = bytes else {
            return Finding::Differs;
        };
        // What was compared before leaves again only as it has left (rule R5).
        if self.compared.is_some_and(|(_, to)| before(position, to)) {
            return match self.masked_value(cx, position) {
                Some(value) if value == own => Finding::Again,
                _ => Finding::Differs,
            };
        }
        if !own.is_ascii_alphanumeric() || !other.is_ascii_alphanumeric() {
            return Finding::Differs;
        }
        let back = self.look_back(cx, p, w, position);
        let sent = [&back.p[back.from..], &back.s[back.from..]];
        match cx.policy.masking(cx.key, cx.now, sent) {
            Masking::None => Finding::Differs,
            Masking::Tried(rule) => Finding::Tried(rule),
            Masking::Masked(rule) => Finding::Masked(rule),
        }
    }

    /// What the PVM has sent at a position, if that was masked and is known still.
    fn masked_value<F: Frame>(&self, cx: &Context<'_, F>, position: u32) -> Option<u8> {
        let mut number = self.masked;
        while let Some(byte) = number.and_then(|number| cx.masked.get(cx.flow, number)) {
            if byte.position == position {
                return Some(byte.value);
            }
            if before(byte.position, position) {
                return None;
            }
            number = byte.before;
        }
        None
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
        let mut number = self.masked;
        while let Some(this) = number {
            let Some(byte) = cx.masked.get(cx.flow, this) else {
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
            number = byte.before;
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

/// The next byte in which two slots differ, behind byte `k` of the `n` from a position on.
fn difference_behind<F: Frame>(
    hold: &Hold<F>,
    [a, b]: [SlotId; 2],
    at: u32,
    n: usize,
    k: usize,
) -> Option<usize> {
    let next = k + 1;
    let found = difference(hold, a, b, at.wrapping_add(next as u32), n - next)?;
    Some(next + found)
}
