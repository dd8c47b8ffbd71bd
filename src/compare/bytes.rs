//! Where two frames' bytes first differ, across segments and without a copy.

use crate::frame::Frame;

/// Distance from the ranges' starts to the first byte that differs, or `None` where the `len`
/// bytes of `a` from `a_start` equal those of `b` from `b_start`. A frame that ends inside its
/// range differs at its end.
#[inline(always)]
pub(super) fn first_difference<F: Frame>(
    a: &F,
    a_start: usize,
    b: &F,
    b_start: usize,
    len: usize,
) -> Option<usize> {
    if let (Some(x), Some(y)) = (
        a.head().get(a_start..a_start + len),
        b.head().get(b_start..b_start + len),
    ) {
        return if x == y { None } else { Some(mismatch(x, y)) };
    }
    first_difference_of_chains(a, a_start, b, b_start, len)
}

#[inline(never)]
fn first_difference_of_chains<F: Frame>(
    a: &F,
    a_start: usize,
    b: &F,
    b_start: usize,
    len: usize,
) -> Option<usize> {
    let (mut xs, mut ys) = (walk(a, a_start), walk(b, b_start));
    let mut done = 0;
    while done < len {
        let (x, y) = (xs.rest(), ys.rest());
        let n = x.len().min(y.len()).min(len - done);
        if n == 0 {
            return Some(done);
        }
        if x[..n] != y[..n] {
            return Some(done + mismatch(&x[..n], &y[..n]));
        }
        xs.advance(n);
        ys.advance(n);
        done += n;
    }
    None
}

#[inline(never)]
fn mismatch(x: &[u8], y: &[u8]) -> usize {
    x.iter().zip(y).position(|(a, b)| a != b).unwrap_or(x.len())
}

/// A position that moves through the segments of a frame.
struct Walk<'a, I> {
    segments: I,
    rest: &'a [u8],
}

/// A walk that begins `start` bytes into the frame.
fn walk<F: Frame>(frame: &F, start: usize) -> Walk<'_, impl Iterator<Item = &[u8]>> {
    let mut skip = start;
    let mut segments = frame.segments();
    let mut rest: &[u8] = &[];
    for segment in segments.by_ref() {
        if skip < segment.len() {
            rest = &segment[skip..];
            break;
        }
        skip -= segment.len();
    }
    Walk { segments, rest }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Walk<'a, I> {
    fn rest(&mut self) -> &'a [u8] {
        while self.rest.is_empty() {
            match self.segments.next() {
                Some(segment) => self.rest = segment,
                None => break,
            }
        }
        self.rest
    }

    fn advance(&mut self, n: usize) {
        self.rest = &self.rest[n..];
    }
}

/// Copies the bytes of a frame from `start` on; false where it has fewer.
pub(super) fn copy<F: Frame>(frame: &F, start: usize, out: &mut [u8]) -> bool {
    let mut bytes = walk(frame, start);
    let mut done = 0;
    while done < out.len() {
        let rest = bytes.rest();
        let n = rest.len().min(out.len() - done);
        if n == 0 {
            return false;
        }
        out[done..done + n].copy_from_slice(&rest[..n]);
        bytes.advance(n);
        done += n;
    }
    true
}

/// Payload bytes around a position, for a report: up to `before` bytes ahead of it and `after` from it on.
pub fn window<F: Frame>(frame: &F, at: usize, before: usize, after: usize) -> Vec<u8> {
    let start = at.saturating_sub(before);
    frame
        .segments()
        .flatten()
        .copied()
        .skip(start)
        .take(at - start + after)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HeapFrame;

    #[test]
    fn copies_across_segments_what_is_there() {
        let frame = HeapFrame::chain(&[b"abc", b"", b"defg", b"h"]);
        for start in 0..9 {
            for len in 0..9 {
                let mut out = vec![0; len];
                let whole = start + len <= 8;
                assert_eq!(copy(&frame, start, &mut out), whole || len == 0);
                if whole {
                    assert_eq!(out, b"abcdefgh"[start..start + len]);
                }
            }
        }
    }

    #[test]
    fn finds_the_first_difference_across_segments() {
        let a = HeapFrame::chain(&[b"abc", b"", b"defg", b"h"]);
        for cut in 0..9 {
            let whole = b"abcdefgh";
            let b = HeapFrame::chain(&[&whole[..cut.min(8)], &whole[cut.min(8)..]]);
            assert_eq!(first_difference(&a, 0, &b, 0, 8), None);
            assert_eq!(first_difference(&a, 2, &b, 2, 6), None);
            for flip in 0..8 {
                let mut other = *whole;
                other[flip] ^= 0x20;
                let b = HeapFrame::chain(&[&other[..cut.min(8)], &other[cut.min(8)..]]);
                assert_eq!(first_difference(&a, 0, &b, 0, 8), Some(flip));
            }
        }
        assert_eq!(
            first_difference(&a, 0, &HeapFrame::new(b"abcd"), 0, 8),
            Some(4)
        );
    }
}
