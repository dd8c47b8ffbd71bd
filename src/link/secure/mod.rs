//! Which frames of the link count: those that the configured peer sent in this session (rule R11).
//!
//! A [`Guard`] stands between the link port and the [`Endpoint`](super::Endpoint), one for each port. It knows
//! no port, no clock and no randomness but what it is given. `docs/link.md` has the design, `docs/threat-model.md`
//! what it is for.
//!
//! [`answers`] chooses what is answered, [`keys`] derives, [`mac`] seals, [`wire`] is the codec, [`window`] lets a
//! number count once, [`guard`] is the state machine, [`notice`] what an operator hears of it. [`progress`] is beside
//! the link: what control threads report.

mod answers;
mod guard;
mod keys;
mod mac;
mod notice;
mod progress;
#[cfg(test)]
mod tests;
mod window;
mod wire;

pub use guard::{Begun, Counts, Guard, Identity, Opened};
pub use keys::{KeyError, KeyRing};
pub use notice::{Fault, Notice};
pub use progress::{Heard, PROGRESS, ProgressExchange};
pub use wire::{Greeting, Role, SEAL, addressee};
