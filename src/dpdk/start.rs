//! Why EAL did not start, in its own words and with what to do.

use std::fmt;

use super::errno::Errno;

/// Marks of a cause in EAL's messages, and what to do about it.
const CAUSES: [(&str, &str); 6] = [
    (
        "no mounted hugetlbfs",
        "mount one with `mount -t hugetlbfs hugetlbfs /dev/hugepages`, or give --in-memory, or --no-huge with -m",
    ),
    (
        "Cannot get hugepage information",
        "reserve hugepages (hugepages/README.md) and mount a hugetlbfs, or give --no-huge with -m",
    ),
    (
        "Cannot create lock on",
        "another process has this --file-prefix; end it, or give each its own",
    ),
    ("cannot be specified", CONTRADICTION),
    ("not compatible", CONTRADICTION),
    ("at the same time", CONTRADICTION),
];
const CONTRADICTION: &str = "remove one of these options";
/// What EAL says of `--no-huge --in-memory`, either of which stands for more than itself.
const NO_HUGE_IN_MEMORY: &str = "--legacy-mem is not compatible with --in-memory";
const ELSE: &str = "check -l, --vdev, -a and the memory";

/// What EAL said when it did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    errno: Errno,
    /// Its error messages, one a line.
    said: String,
    /// `--no-huge` was among its options.
    no_huge: bool,
}

impl Failure {
    /// The failure after which EAL left `errno` and these messages, given these options.
    pub(super) fn new(errno: Errno, said: String, options: &[String]) -> Self {
        let no_huge = options.iter().any(|option| option == "--no-huge");
        Self {
            errno,
            said,
            no_huge,
        }
    }

    /// Whether options that exclude each other are the cause.
    pub fn is_contradiction(&self) -> bool {
        self.advice() == CONTRADICTION
    }

    fn advice(&self) -> &'static str {
        CAUSES
            .iter()
            .find(|(mark, _)| self.said.contains(mark))
            .map_or(ELSE, |(_, advice)| advice)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.said.is_empty() {
            write!(f, "{}; see its messages above", self.errno)?;
        } else if self.no_huge && self.said.contains(NO_HUGE_IN_MEMORY) {
            f.write_str("--in-memory cannot be given together with --no-huge")?;
        } else {
            f.write_str(&in_one_line(&self.said))?;
        }
        write!(f, "; {}", self.advice())
    }
}

/// EAL's messages without their names of libraries, each once.
pub(super) fn in_one_line(said: &str) -> String {
    let mut messages: Vec<&str> = Vec::new();
    for line in said.lines() {
        let message = line.trim_start_matches("EAL: ").trim();
        if !message.is_empty() && !messages.contains(&message) {
            messages.push(message);
        }
    }
    messages.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, options: &[&str]) -> String {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        Failure::new(
            Errno::check(-13).expect_err("an error"),
            text.to_owned(),
            &options,
        )
        .to_string()
    }

    #[test]
    fn a_cause_is_named_with_what_to_do() {
        for (text, options, line) in [
            (
                "EAL: 700 hugepages of size 2097152 reserved, but no mounted hugetlbfs found for that size\n\
                 EAL: FATAL: Cannot get hugepage information.\nEAL: Cannot get hugepage information.\n",
                &[][..],
                "700 hugepages of size 2097152 reserved, but no mounted hugetlbfs found for that size, FATAL: \
                 Cannot get hugepage information., Cannot get hugepage information.; mount one with `mount -t \
                 hugetlbfs hugetlbfs /dev/hugepages`, or give --in-memory, or --no-huge with -m",
            ),
            (
                "EAL: Cannot create lock on '/run/dpdk/a/config'. Is another primary process running?\n",
                &[],
                "Cannot create lock on '/run/dpdk/a/config'. Is another primary process running?; another process \
                 has this --file-prefix; end it, or give each its own",
            ),
            (
                "EAL: Option --legacy-mem is not compatible with --in-memory\nEAL: Invalid 'command line' arguments.\n",
                &["--in-memory", "--no-huge"],
                "--in-memory cannot be given together with --no-huge; remove one of these options",
            ),
            (
                "",
                &[],
                "Permission denied (os error 13); see its messages above; check -l, --vdev, -a and the memory",
            ),
        ] {
            assert_eq!(said(text, options), line);
        }
    }
}
