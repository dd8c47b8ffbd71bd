//! The secrets that a pair shares, and what is derived from them (RFC 5869).

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::mac::{KEY, MacKey, TAG};
use super::wire::{KEYS, KeyName, Nonce, Role};

/// Bytes of a secret.
const SECRET: usize = 32;
/// What the extraction is salted with: a secret is used for nothing but this.
const SALT: &[u8] = b"dpdk-colo link 1";

/// Why a text holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no key in it.
    #[error("there is no key in it; --make-link-key FILE makes one")]
    None,
    /// There are too many.
    #[error("there are more than two keys in it; the second one is for a roll-over")]
    Many,
    /// A line is no key.
    #[error("line {line} is no key, which has 64 hexadecimal digits")]
    Line {
        /// From 1.
        line: usize,
    },
    /// The same key twice.
    #[error("both keys are the same")]
    Same,
}

/// One or two secrets, the second for a roll-over. It does not show them, and nothing of them stays when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    first: [u8; SECRET],
    second: Option<[u8; SECRET]>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

impl Zeroize for KeyRing {
    fn zeroize(&mut self) {
        self.first.zeroize();
        self.second.zeroize();
    }
}

impl Drop for KeyRing {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for KeyRing {}

impl KeyRing {
    /// Reads the text of a key file: a key on each line, and lines that begin with `#`.
    ///
    /// # Errors
    /// Where it does not hold one or two keys.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // A vector that grew would leave a copy where it was.
        let mut keys = Zeroizing::new(Vec::with_capacity(KEYS));
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                if keys.len() == KEYS {
                    return Err(KeyError::Many);
                }
                keys.push(secret(line).ok_or(KeyError::Line { line: at + 1 })?);
            }
        }
        match keys[..] {
            [] => Err(KeyError::None),
            [first] => Ok(Self {
                first,
                second: None,
            }),
            [first, second] if first == second => Err(KeyError::Same),
            [first, second] => Ok(Self {
                first,
                second: Some(second),
            }),
            _ => Err(KeyError::Many),
        }
    }

    /// The text of a key file with this key.
    pub fn text(key: &[u8; SECRET]) -> Zeroizing<String> {
        const HEAD: &str = "# The secret of a dpdk-colo link; both nodes of a VM pair need it, and nobody else.\n\
             # A second key below it is accepted, too (docs/threat-model.md).\n";
        // A text that grew would leave a copy where it was.
        let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + 2 * SECRET + 1));
        text.push_str(HEAD);
        for digit in key.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            text.extend(char::from_digit(digit.into(), 16));
        }
        text.push('\n');
        text
    }

    /// The public names of the keys, in hexadecimal: each node sends them with its greeting.
    pub fn ids(&self) -> Vec<String> {
        let keys = self.of_vm(0).into_iter().flatten();
        let hex = |name: KeyName| name.iter().map(|byte| format!("{byte:02x}")).collect();
        keys.map(|key| hex(key.name)).collect()
    }

    /// The keys of the control threads' reports for one VM.
    pub(super) fn progress_keys(&self, vm: u16) -> [Option<Hmac<Sha256>>; KEYS] {
        [Some(self.first), self.second].map(|secret| {
            let root = Hkdf::<Sha256>::new(Some(SALT), &secret?);
            let mut key = [0; 32];
            expand(&root, &[b"progress", &vm.to_be_bytes()], &mut key);
            Some(hmac(&key))
        })
    }

    /// What is derived from each key for one VM.
    pub(super) fn of_vm(&self, vm: u16) -> [Option<VmKey>; KEYS] {
        [
            Some(VmKey::new(&self.first, vm)),
            self.second.map(|key| VmKey::new(&key, vm)),
        ]
    }
}

fn secret(hex: &str) -> Option<[u8; SECRET]> {
    let digits = hex.as_bytes();
    if digits.len() != 2 * SECRET || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut key = [0; SECRET];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

/// One end of a session, as the derivation names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub nonce: Nonce,
    pub role: Role,
}

/// What is derived from a secret for one VM.
#[derive(Clone)]
pub(super) struct VmKey {
    pub name: KeyName,
    vm: u16,
    root: Hkdf<Sha256>,
    greetings: Hmac<Sha256>,
}

impl VmKey {
    fn new(secret: &[u8; SECRET], vm: u16) -> Self {
        let root = Hkdf::<Sha256>::new(Some(SALT), secret);
        let mut name = KeyName::default();
        expand(&root, &[b"name"], &mut name);
        let mut greetings = Zeroizing::new([0; 32]);
        expand(&root, &[b"greeting", &vm.to_be_bytes()], &mut *greetings);
        Self {
            name,
            vm,
            greetings: hmac(&greetings),
            root,
        }
    }

    /// The tag of a greeting.
    pub(crate) fn greeting_tag(&self, parts: [&[u8]; 2]) -> [u8; TAG] {
        let mut mac = self.greetings.clone();
        parts.iter().for_each(|part| mac.update(part));
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
        tag
    }

    /// The key of what one end sends to the other in a session, and the session's number in its frames.
    pub(crate) fn session(&self, from: End, to: End) -> (MacKey, u16) {
        let mut out = Zeroizing::new([0; KEY + 2]);
        let info: [&[u8]; 6] = [
            b"session",
            &self.vm.to_be_bytes(),
            &[from.role as u8, to.role as u8],
            &from.nonce,
            &to.nonce,
            b"sender first",
        ];
        expand(&self.root, &info, &mut *out);
        let (key, id) = out.split_at(KEY);
        let mut mac_key = Zeroizing::new([0; KEY]);
        mac_key.copy_from_slice(key);
        (MacKey::new(&mac_key), u16::from_be_bytes([id[0], id[1]]))
    }
}

/// RFC 2104: a key shorter than a block of the hash has zeros behind it.
fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64].into();
    let bytes: &mut [u8] = AsMut::<[u8]>::as_mut(&mut block);
    bytes[..key.len()].copy_from_slice(key);
    let mac = Hmac::new(&block);
    block.as_mut_slice().zeroize();
    mac
}

fn expand(root: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8]) {
    let done = root.expand_multi_info(info, out);
    // RFC 5869 gives up to 255 times 32 bytes.
    debug_assert!(done.is_ok());
}

/// Random bytes without end, made of the seed that the node got from its operating system.
#[derive(Clone)]
pub(super) struct Source {
    seed: Hmac<Sha256>,
    drawn: u64,
}

impl Source {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self {
            seed: hmac(seed),
            drawn: 0,
        }
    }

    /// The next 32 bytes.
    pub(crate) fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let mut mac = self.seed.clone();
        mac.update(&self.drawn.to_be_bytes());
        mac.finalize().into_bytes().into()
    }

    /// A nonce, which is not that of nobody.
    pub(crate) fn nonce(&mut self) -> Nonce {
        loop {
            let mut nonce = Nonce::default();
            let length = nonce.len();
            nonce.copy_from_slice(&self.draw()[..length]);
            if nonce != Nonce::default() {
                return nonce;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    const B: &str = "f0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_key_file_has_one_key_or_two() {
        for (text, expected) in [
            (format!("{A}\n"), Ok(())),
            (format!("# a\n\n {A} \n# b\n{B}"), Ok(())),
            (String::new(), Err(KeyError::None)),
            ("# only words\n".to_owned(), Err(KeyError::None)),
            (format!("{A}\n{A}\n"), Err(KeyError::Same)),
            (format!("{A}\n{B}\n{B}\n"), Err(KeyError::Many)),
            (format!("#\n{}", &A[1..]), Err(KeyError::Line { line: 2 })),
            (format!("{A}0"), Err(KeyError::Line { line: 1 })),
            (format!("+{}", &A[1..]), Err(KeyError::Line { line: 1 })),
            (format!("{A}\nnone"), Err(KeyError::Line { line: 2 })),
        ] {
            assert_eq!(KeyRing::parse(&text).map(|_| ()), expected, "{text}");
        }
        let key = [0x5a; 32];
        let ring = KeyRing::parse(&KeyRing::text(&key)).expect("what is made is read");
        assert_eq!((ring.first, ring.second), (key, None));
        assert!(!format!("{ring:?}").contains("90"), "{ring:?}");
    }

    /// Whether a value overwrites itself when it is dropped is a matter of its type.
    fn clears_itself<T: ZeroizeOnDrop>() {}

    #[test]
    fn no_key_outlives_its_owner() {
        clears_itself::<KeyRing>();
        clears_itself::<MacKey>();
        clears_itself::<aes::Aes128>();
        // All that an HMAC is made of.
        clears_itself::<Sha256>();
        let mut ring = KeyRing::parse(&format!("{A}\n{B}")).expect("two keys");
        ring.zeroize();
        assert_eq!((ring.first, ring.second), ([0; SECRET], None));
    }

    #[test]
    fn keys_differ_by_vm_direction_role_and_nonce() {
        let ring = KeyRing::parse(A).expect("a key");
        let vm = |vm| ring.of_vm(vm)[0].clone().expect("a key");
        let end = |nonce, role| End {
            nonce: [nonce; 16],
            role,
        };
        let (p, s) = (end(1, Role::Primary), end(2, Role::Secondary));
        let tag =
            |vm: &VmKey, from, to| vm.session(from, to).0.tag(1, &[0; 16], std::iter::empty());
        let seven = vm(7);
        let tags = [
            tag(&seven, p, s),
            tag(&seven, s, p),
            tag(&vm(8), p, s),
            tag(&seven, end(1, Role::Secondary), s),
            tag(&seven, p, end(2, Role::Primary)),
            tag(&seven, end(3, Role::Primary), s),
            tag(&seven, p, end(3, Role::Secondary)),
        ];
        for (at, tag) in tags.iter().enumerate() {
            assert!(!tags[..at].contains(tag), "{at}");
        }
        assert_ne!(
            seven.greeting_tag([b"a", b"b"]),
            vm(8).greeting_tag([b"a", b"b"])
        );
        let mut source = Source::new(&[1; 32]);
        assert_ne!(source.nonce(), source.nonce());
    }
}
