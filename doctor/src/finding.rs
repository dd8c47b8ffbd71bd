//! A finding: what, where, what to do.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the set-up is sound.
    Note,
    /// It works, but worse than it could, or not in every case.
    Warning,
    /// It does not work, or does not protect.
    Error,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its name, which stays from release to release.
    pub check: Cow<'static, str>,
    /// Where: a pair, a file, an interface, a CPU.
    pub place: String,
    /// What is so.
    pub what: String,
    /// What to do.
    pub todo: String,
}

/// Whether nothing is wrong. A note is nothing wrong.
pub fn is_sound(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.severity == Severity::Note)
}

/// The findings for a reader, the worst first.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding {
            severity,
            check,
            place,
            what,
            todo,
        } = finding;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {place}: {what} [{check}]", severity.word());
        let _ = writeln!(text, "  to do: {todo}");
    }
    let wrong = |severity| {
        let of = findings.iter().filter(|it| it.severity == severity);
        of.count()
    };
    let (errors, warnings) = (wrong(Severity::Error), wrong(Severity::Warning));
    let _ = match (errors, warnings) {
        (0, 0) => writeln!(text, "nothing is wrong"),
        _ => writeln!(text, "errors: {errors}, warnings: {warnings}"),
    };
    text
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    pub(crate) fn error(
        &mut self,
        check: &'static str,
        place: impl Into<String>,
        what: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.add(Severity::Error, check, place, what, todo);
    }

    pub(crate) fn warning(
        &mut self,
        check: &'static str,
        place: impl Into<String>,
        what: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.add(Severity::Warning, check, place, what, todo);
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        check: &'static str,
        place: impl Into<String>,
        what: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.0.push(Finding {
            severity,
            check: Cow::Borrowed(check),
            place: place.into(),
            what: what.into(),
            todo: todo.into(),
        });
    }

    /// The worst first; among equals the order of the checks.
    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        self.0
            .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.0
    }
}
