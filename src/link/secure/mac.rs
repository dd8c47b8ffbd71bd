//! AES-128-GMAC (NIST SP 800-38D) over bytes that lie in several pieces.

use std::hint::black_box;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use ghash::universal_hash::array::Array;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a tag.
pub(crate) const TAG: usize = 16;
/// Bytes of a key: AES-128's and a salt.
pub(crate) const KEY: usize = 20;

const BLOCK: usize = 16;

/// One direction's key, ready for use. Nothing of it stays when it is dropped; what a tag needs of it on the stack
/// is overwritten by what comes next.
#[derive(Clone)]
pub(crate) struct MacKey {
    cipher: Aes128,
    /// The hash of nothing.
    hash: GHash,
    salt: [u8; 4],
}

impl MacKey {
    /// The key of 16 bytes of AES's and 4 of the nonce's that no frame carries.
    pub(crate) fn new(key: &[u8; KEY]) -> Self {
        let (aes, salt) = key.split_at(16);
        let mut aes_key = Array::default();
        aes_key.copy_from_slice(aes);
        let cipher = Aes128::new(&aes_key);
        aes_key.as_mut_slice().zeroize();
        let mut subkey = Array::default();
        cipher.encrypt_block(&mut subkey);
        let hash = GHash::new(&subkey);
        subkey.as_mut_slice().zeroize();
        Self {
            cipher,
            hash,
            salt: [salt[0], salt[1], salt[2], salt[3]],
        }
    }

    /// The tag of `head` and the pieces behind it. With one key a number makes one tag, ever.
    #[inline]
    pub(crate) fn tag<'a>(
        &self,
        number: u64,
        head: &[u8; BLOCK],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> [u8; TAG] {
        let mut sum = Pieces::new(self.hash.clone());
        sum.add(head);
        pieces.for_each(|piece| sum.add(piece));
        let hash = u128::from_ne_bytes(sum.finish().into());
        let mut nonce = [0; BLOCK];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..12].copy_from_slice(&number.to_be_bytes());
        nonce[15] = 1;
        let mut mask = Array::from(nonce);
        self.cipher.encrypt_block(&mut mask);
        (hash ^ u128::from_ne_bytes(mask.into())).to_ne_bytes()
    }
}

impl Drop for MacKey {
    fn drop(&mut self) {
        // The cipher does it itself. A hash that did would do it for each frame's copy, which costs as much as the
        // tag of a short one.
        self.hash = GHash::new(&Array::default());
        black_box(&mut self.hash);
        self.salt.zeroize();
    }
}

impl ZeroizeOnDrop for MacKey {}

/// Whether two tags are the same, in a time that does not depend on where they differ.
#[inline]
pub(crate) fn same(a: &[u8; TAG], b: &[u8; TAG]) -> bool {
    u128::from_ne_bytes(*a) ^ u128::from_ne_bytes(*b) == 0
}

/// A hash of whole blocks, fed with pieces of any length.
struct Pieces {
    hash: GHash,
    /// The last block's first bytes.
    rest: [u8; BLOCK],
    in_rest: usize,
    bytes: u64,
}

impl Pieces {
    fn new(hash: GHash) -> Self {
        Self {
            hash,
            rest: [0; BLOCK],
            in_rest: 0,
            bytes: 0,
        }
    }

    #[inline]
    fn add(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if self.in_rest > 0 {
            let n = piece.len().min(BLOCK - self.in_rest);
            let (now, later) = piece.split_at(n);
            self.rest[self.in_rest..self.in_rest + n].copy_from_slice(now);
            self.in_rest += n;
            piece = later;
            if self.in_rest < BLOCK {
                return;
            }
            self.hash.update(&[Array::from(self.rest)]);
            self.in_rest = 0;
        }
        let (blocks, rest) = Array::slice_as_chunks(piece);
        self.hash.update(blocks);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.in_rest = rest.len();
    }

    /// The hash, all bytes taken as additional data.
    #[inline]
    fn finish(mut self) -> Array<u8, ghash::universal_hash::consts::U16> {
        let mut lengths = [0; BLOCK];
        lengths[..8].copy_from_slice(&(self.bytes * 8).to_be_bytes());
        self.rest[self.in_rest..].fill(0);
        match self.in_rest {
            0 => self.hash.update(&[lengths.into()]),
            _ => self.hash.update(&[self.rest.into(), lengths.into()]),
        }
        self.hash.finalize()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("hex");
        std::array::from_fn(byte)
    }

    /// The Galois/Counter Mode of Operation (McGrew, Viega), test case 1, and the GMAC of IEEE 802.1AE, C.2.1
    /// (54 bytes, 128-bit key). The number is the last eight bytes of the nonce.
    #[test]
    fn the_published_examples_come_out() {
        let mut key = [0; KEY];
        key[..16].copy_from_slice(&bytes::<16>("ad7a2bd03eac835a6f620fdcb506b345"));
        key[16..].copy_from_slice(&bytes::<4>("12153524"));
        let number = u64::from_be_bytes(bytes::<8>("c0895e81b2c28465"));
        let data: [u8; 70] = bytes(
            "d609b1f056637a0d46df998d88e5222ab2c2846512153524c0895e8108000f10\
             1112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30\
             313233340001",
        );
        let tag = MacKey::new(&key).tag(
            number,
            data.first_chunk().expect("16 bytes"),
            [&data[16..]].into_iter(),
        );
        assert_eq!(tag, bytes("f09478a9b09007d06f46e9b6a1da25dd"));
    }

    proptest! {
        #[test]
        fn a_tag_depends_on_the_bytes_and_not_on_how_they_lie(
            data in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            head: [u8; 16], number: u64, key: [u8; KEY], flip: (prop::sample::Index, u8),
        ) {
            let key = MacKey::new(&key);
            let whole = key.tag(number, &head, [&data[..]].into_iter());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts {
                pieces.push(&data[at..cut]);
                at = cut;
            }
            pieces.push(&data[at..]);
            prop_assert_eq!(key.tag(number, &head, pieces.into_iter()), whole);
            prop_assert_ne!(key.tag(number ^ 1, &head, [&data[..]].into_iter()), whole);
            let longer = [&data[..], &[0]].concat();
            prop_assert_ne!(key.tag(number, &head, [&longer[..]].into_iter()), whole);
            if !data.is_empty() {
                let mut other = data.clone();
                other[flip.0.index(data.len())] ^= 1 << (flip.1 % 8);
                prop_assert_ne!(key.tag(number, &head, [&other[..]].into_iter()), whole);
            }
        }
    }
}
