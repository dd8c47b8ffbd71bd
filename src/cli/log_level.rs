//! How much the libraries below say.

/// The vhost library's lines are some 60 for each checkpoint, since each stops and starts the VM's ring.
const VHOST: &str = "--log-level=lib.vhost.*:warning";

/// Adds to a whole command line, behind the program's name, that the vhost library only warns; not where EAL's
/// options set its log level.
pub fn quiet_vhost(mut words: Vec<String>) -> Vec<String> {
    let eal = words
        .iter()
        .position(|word| word == "--")
        .unwrap_or(words.len());
    let said = words[..eal].iter().enumerate().any(|(at, word)| {
        let Some(level) = word.strip_prefix("--log-level") else {
            return false;
        };
        let level = match level.strip_prefix('=') {
            Some(attached) => attached,
            None => words[..eal].get(at + 1).map_or("", String::as_str),
        };
        level.contains("vhost") || level.contains('*')
    });
    if !said && !words.is_empty() {
        words.insert(1, VHOST.to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_nothing_of_the_library_gets_the_default() {
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        for line in [
            "p --log-level lib.vhost.config:info -- --role compare",
            "p --log-level=lib.*:debug",
            "p -l 0 --log-level=*:8 --",
        ] {
            assert_eq!(quiet_vhost(words(line)), words(line));
        }
        for (line, more) in [
            (
                "p -- --log-level lib.vhost:info",
                "p --log-level=lib.vhost.*:warning -- --log-level lib.vhost:info",
            ),
            (
                "p --log-level 8 -l 0",
                "p --log-level=lib.vhost.*:warning --log-level 8 -l 0",
            ),
            ("p", "p --log-level=lib.vhost.*:warning"),
        ] {
            assert_eq!(quiet_vhost(words(line)), words(more));
        }
    }
}
