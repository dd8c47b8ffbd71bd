//! Splits the EAL's arguments from this program's, at the first `--`.

use std::ffi::OsString;

use super::UsageError;
use super::options::{asks_for_key, asks_for_text, names_app_option};

/// The two halves of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The program's name and the EAL's options, as `rte_eal_init` wants them.
    pub eal: Vec<OsString>,
    /// This program's options.
    pub app: Vec<OsString>,
}

/// Splits `args`, the program's name first, at the first `--`.
///
/// Without a `--`, a call for help, the version or a key file is this program's; the EAL's own help is
/// `-h --` with the rest behind it.
///
/// # Errors
/// When there is no `--` and an argument is an option of this program, which the EAL would refuse
/// with a page of its own.
pub fn split(args: impl IntoIterator<Item = OsString>) -> Result<Split, UsageError> {
    let mut eal: Vec<OsString> = args.into_iter().collect();
    if let Some(at) = eal.iter().position(|arg| arg == "--") {
        let app = eal.split_off(at + 1);
        eal.truncate(at);
        return Ok(Split { eal, app });
    }
    let ours = |arg: &&OsString| names_app_option(arg) || asks_for_text(arg);
    match eal.iter().skip(1).find(ours) {
        None => Ok(Split {
            eal,
            app: Vec::new(),
        }),
        Some(arg) if asks_for_key(arg) => {
            let at = eal.iter().position(|arg| asks_for_key(arg));
            let app = eal[at.unwrap_or(0)..].to_vec();
            Ok(Split { eal, app })
        }
        Some(arg) if asks_for_text(arg) => {
            let app = vec![arg.clone()];
            Ok(Split { eal, app })
        }
        Some(arg) => Err(UsageError::NoSeparator {
            option: arg.to_string_lossy().into_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_first_double_dash_parts_the_halves() {
        for (line, eal, app) in [
            ("p -l 0 -- --role compare", "p -l 0", "--role compare"),
            ("p --", "p", ""),
            ("p -- --out a -- b", "p", "--out a -- b"),
            ("p -l 0 --vdev net_null0", "p -l 0 --vdev net_null0", ""),
            ("p", "p", ""),
            ("", "", ""),
            ("p -h -- --role compare", "p -h", "--role compare"),
        ] {
            let expected = Split {
                eal: words(eal),
                app: words(app),
            };
            assert_eq!(split(words(line)).expect(line), expected, "{line}");
        }
    }

    #[test]
    fn help_needs_no_double_dash() {
        for ask in ["-h", "--help", "-V", "--version"] {
            let halves = split(words(&format!("p -l 0 {ask}"))).expect(ask);
            assert_eq!(halves.app, words(ask));
        }
    }

    #[test]
    fn a_key_file_needs_no_double_dash() {
        for ask in ["--make-link-key k", "--make-link-key=k"] {
            let halves = split(words(&format!("p {ask}"))).expect(ask);
            assert_eq!(halves.app, words(ask));
        }
    }

    #[test]
    fn options_of_the_program_without_a_double_dash_get_a_hint() {
        for line in ["p --role primary", "p -l 0 --out=net_null0 --help"] {
            let error = split(words(line)).expect_err(line).to_string();
            assert!(error.contains("EAL options come before `--`"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
