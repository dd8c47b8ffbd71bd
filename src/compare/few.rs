//! The last few different values of something, in a fixed place (rule R10).

/// Values that are remembered.
const MOST: usize = 4;

/// The last [`MOST`] different values, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Few<T> {
    values: [T; MOST],
    len: u8,
}

impl<T: Copy + PartialEq> Few<T> {
    /// Adds a value that is not there yet; the oldest makes room.
    pub(super) fn note(&mut self, value: T) {
        if self.has(value) {
            return;
        }
        let mut len = usize::from(self.len);
        if len == MOST {
            self.values.rotate_left(1);
            len -= 1;
        }
        self.values[len] = value;
        self.len = len as u8 + 1;
    }

    pub(super) fn has(&self, value: T) -> bool {
        self.iter().any(|known| known == value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.values[..usize::from(self.len)].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_five_is_forgotten() {
        let mut few = Few::default();
        for value in [1, 2, 1, 3, 4, 2, 5] {
            few.note(value);
        }
        assert_eq!(few.iter().collect::<Vec<u32>>(), [2, 3, 4, 5]);
        assert!(few.has(5) && !few.has(1) && !few.has(0));
    }
}
