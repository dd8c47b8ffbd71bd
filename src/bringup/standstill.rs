//! A VM that a bring-up has stopped, and that nobody has let go on yet.

use crate::qmp::RunState;

/// Whether QEMU is owed `cont`: a `stop` was given to it, and no `cont` was executed since then.
///
/// It outlives the bring-up: the monitor may be lost between the two commands, and then nothing else starts the VM.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContOwed {
    owed: bool,
    /// The token of the `cont` that QEMU has not answered.
    asked: Option<u64>,
}

impl ContOwed {
    /// QEMU is given this command.
    pub fn executes(&mut self, token: u64, name: &str) {
        match name {
            // Its reply may be lost, and it executed all the same.
            "stop" => (self.owed, self.asked) = (true, None),
            "cont" => self.asked = Some(token),
            _ => {}
        }
    }

    /// QEMU has answered the command with this token.
    pub fn replied(&mut self, token: u64, ok: bool) {
        if ok && self.asked == Some(token) {
            *self = Self::default();
        }
    }

    /// The monitor answers again, and the VM is in this state: whether QEMU is to be given `cont` now.
    pub fn connects(&mut self, run: RunState) -> bool {
        self.asked = None;
        self.owed &= run == RunState::Paused;
        self.owed
    }

    /// Whether it is owed.
    pub fn is_owed(&self) -> bool {
        self.owed
    }
}
