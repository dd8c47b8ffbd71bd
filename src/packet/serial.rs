//! Arithmetic on TCP sequence numbers, which wrap (RFC 9293, 3.4; RFC 1982).
//!
//! Two numbers can be ordered while they lie less than 2^31 apart, which TCP's window guarantees.
//! At a distance of exactly 2^31 RFC 1982 leaves the order undefined; here each of the two then
//! counts as before the other. So a caller that must not run ahead asks for [`at_or_before`] in the
//! direction that refuses.

/// How far `to` lies ahead of `from`; negative when it lies behind.
#[inline]
pub const fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// Whether `a` precedes `b`.
#[inline]
pub const fn before(a: u32, b: u32) -> bool {
    distance(b, a) < 0
}

/// Whether `a` precedes `b` or is `b`.
#[inline]
pub const fn at_or_before(a: u32, b: u32) -> bool {
    distance(b, a) <= 0
}

/// The later of two numbers.
#[inline]
pub const fn max(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

/// The earlier of two numbers.
#[inline]
pub const fn min(a: u32, b: u32) -> u32 {
    if before(b, a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        assert!(before(u32::MAX, 0));
        assert!(!before(0, u32::MAX));
        assert!(before(0xffff_fff0, 0x10));
        assert!(at_or_before(7, 7));
        assert!(!before(7, 7));
        assert_eq!(max(u32::MAX, 3), 3);
        assert_eq!(min(u32::MAX, 3), u32::MAX);
        assert_eq!(distance(u32::MAX, 1), 2);
        assert_eq!(distance(1, u32::MAX), -2);
    }

    #[test]
    fn order_does_not_depend_on_the_origin() {
        for origin in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX] {
            for ahead in [1, 2, 65_535, 0x7fff_ffff] {
                let later = origin.wrapping_add(ahead);
                assert!(before(origin, later), "{origin} {ahead}");
                assert!(!at_or_before(later, origin), "{origin} {ahead}");
                assert_eq!(max(origin, later), later);
                assert_eq!(min(later, origin), origin);
            }
        }
    }
}
