//! What tests need of a machine and no package brings: a person may run them without it, by name.

use std::env;
use std::fmt::Display;

/// The variable that names, separated by commas, what the tests do without: `ptrace`, `qemu-colo`, `root`.
pub const VARIABLE: &str = "DPDK_COLO_WITHOUT";

/// How a machine comes to have each.
const CURES: [(&str, &str); 3] = [
    (
        "ptrace",
        "run as root, set /proc/sys/kernel/yama/ptrace_scope to 0, and start a container with CAP_SYS_PTRACE",
    ),
    (
        "qemu-colo",
        "have in PATH a qemu-system-x86_64 that can do COLO, as scripts/install-packages installs it on Debian 12",
    ),
    ("root", "run as root"),
];

/// What was found. `None` if it was not, and the person who runs the tests goes on without it: the test is over then.
///
/// # Panics
/// Where it was not found and is not named in [`VARIABLE`].
pub fn met<T, E: Display>(name: &str, found: Result<T, E>) -> Option<T> {
    let without = env::var(VARIABLE).unwrap_or_default();
    match outcome(name, found, &without) {
        Ok(found) => Some(found),
        Err(Lack::Allowed(line)) => {
            println!("{line}");
            None
        }
        Err(Lack::Fault(line)) => panic!("{line}"),
    }
}

/// What is missing, in words.
#[derive(Debug, PartialEq, Eq)]
enum Lack {
    /// A person does without.
    Allowed(String),
    /// Nobody said so.
    Fault(String),
}

fn outcome<T, E: Display>(name: &str, found: Result<T, E>, without: &str) -> Result<T, Lack> {
    let cure = CURES.iter().find(|(known, _)| *known == name);
    let (_, cure) = cure.unwrap_or_else(|| panic!("{name} is no known requirement"));
    found.map_err(|reason| {
        if without.split(',').any(|allowed| allowed.trim() == name) {
            Lack::Allowed(format!("{VARIABLE}={name}: {reason}"))
        } else {
            Lack::Fault(format!(
                "{reason}: {cure}; or set {VARIABLE}={name} to leave out what needs it"
            ))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_a_fault_unless_a_person_does_without() {
        let found: Result<u8, &str> = Ok(7);
        assert_eq!(outcome("ptrace", found, ""), Ok(7));
        let missing = |without| {
            let found: Result<u8, &str> = Err("not permitted");
            outcome("ptrace", found, without).expect_err("it is missing")
        };
        for without in ["", "qemu-colo", "ptraces"] {
            let Lack::Fault(line) = missing(without) else {
                panic!("{without:?} allows it");
            };
            for word in [
                "not permitted",
                "CAP_SYS_PTRACE",
                "DPDK_COLO_WITHOUT=ptrace",
            ] {
                assert!(line.contains(word), "{line}");
            }
            assert_eq!(line.lines().count(), 1, "{line}");
        }
        for without in ["ptrace", "qemu-colo, ptrace"] {
            assert!(matches!(missing(without), Lack::Allowed(_)), "{without:?}");
        }
    }
}
