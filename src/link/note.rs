//! Text that the control threads of the two nodes send each other, in pieces of a control message's length.
//!
//! In: a text, or pieces in the order in which they were sent. Out: the pieces of a text, or the text once its last
//! piece has come. A piece whose predecessor is missing counts for nothing, and neither does the rest of its text.

/// Bytes of a piece.
pub const PIECE: usize = 56;
/// Bytes of a text at most.
pub const TEXT_MAX: usize = 4 << 10;
const _: () = assert!(
    TEXT_MAX.div_ceil(PIECE) <= 1 << u8::BITS,
    "a piece has an index"
);

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub(super) first: bool,
    pub(super) last: bool,
    /// Its place in the text, from 0.
    pub(super) index: u8,
    pub(super) len: u8,
    pub(super) bytes: [u8; PIECE],
}

impl Piece {
    /// The pieces of a text, which has one byte at least.
    pub fn all(text: &[u8]) -> impl Iterator<Item = Self> {
        debug_assert!(
            (1..=TEXT_MAX).contains(&text.len()),
            "the other end takes no other"
        );
        let count = text.len().div_ceil(PIECE);
        text.chunks(PIECE).enumerate().map(move |(at, chunk)| {
            let mut bytes = [0; PIECE];
            bytes[..chunk.len()].copy_from_slice(chunk);
            Self {
                first: at == 0,
                last: at + 1 == count,
                // A text has no more pieces than this counts.
                index: at as u8,
                // A chunk is no longer than a piece.
                len: chunk.len() as u8,
                bytes,
            }
        })
    }
}

/// Puts a text together.
#[derive(Debug, Default)]
pub struct Assembler {
    /// What there is of a text that has begun.
    text: Option<Vec<u8>>,
    /// The index of the piece that has to come next.
    next: u8,
}

impl Assembler {
    /// Takes the next piece; the text that it is the last one of.
    pub fn push(&mut self, piece: Piece) -> Option<Vec<u8>> {
        if piece.first {
            (self.text, self.next) = (Some(Vec::new()), 0);
        }
        if piece.index != self.next {
            self.text = None;
        }
        self.next = piece.index.wrapping_add(1);
        let text = self.text.as_mut()?;
        text.extend_from_slice(piece.bytes.get(..usize::from(piece.len))?);
        if text.len() > TEXT_MAX {
            self.text = None;
            return None;
        }
        if piece.last { self.text.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_text_comes_out_as_it_went_in() {
        let mut assembler = Assembler::default();
        for len in [1, PIECE - 1, PIECE, PIECE + 1, 1000, TEXT_MAX] {
            let text = text(len);
            let mut out = None;
            for piece in Piece::all(&text) {
                assert_eq!(out, None, "only the last piece ends it");
                out = assembler.push(piece);
            }
            assert_eq!(out, Some(text));
        }
    }

    #[test]
    fn a_text_with_a_hole_or_without_an_end_counts_for_nothing() {
        let mut assembler = Assembler::default();
        let long = text(3 * PIECE);
        let mut pieces = Piece::all(&long);
        pieces.next();
        for piece in pieces {
            assert_eq!(assembler.push(piece), None, "its first piece is missing");
        }
        for lost in 1..3 {
            for (at, piece) in Piece::all(&long).enumerate() {
                if at != lost {
                    assert_eq!(assembler.push(piece), None, "piece {lost} is missing");
                }
            }
        }
        let endless = Piece::all(&long).next().expect("it has three");
        for index in 0..=u8::MAX {
            let piece = Piece {
                index,
                first: index == 0,
                ..endless
            };
            assert_eq!(assembler.push(piece), None);
        }
        let short = text(3);
        let last = Piece::all(&short).next().expect("it has one");
        assert_eq!(assembler.push(last), Some(short));
    }
}
