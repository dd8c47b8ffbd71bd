//! EAL's half of a command line, as far as a node can be judged by it.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Megabytes that EAL takes with `--no-huge` and without `-m`.
const DEFAULT_MB: u64 = 64;

/// A device that EAL is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vdev {
    pub(super) name: String,
    /// What stands behind the name.
    pub(super) arguments: String,
}

/// What the words say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EalWords {
    pub(super) hugepages: bool,
    pub(super) in_memory: bool,
    pub(super) huge_dir: Option<String>,
    pub(super) main_lcore: Option<u32>,
    pub(super) vdevs: Vec<Vdev>,
    megabytes: Option<u64>,
    /// Each lcore's CPUs, where the words choose any.
    lcores: Option<BTreeMap<u32, Vec<u32>>>,
}

impl EalWords {
    /// Reads the words, the program's name first. Words that it does not know it leaves to EAL.
    pub(super) fn read(words: &[OsString]) -> Self {
        let mut read = Self {
            hugepages: true,
            ..Self::default()
        };
        let mut words = words.iter().skip(1).map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            let (name, attached) = match word.strip_prefix("--") {
                Some(long) => match long.split_once('=') {
                    Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
                    None => (word.to_string(), None),
                },
                None if word.starts_with('-') && word.is_char_boundary(2) && word.len() > 2 => {
                    (word[..2].to_owned(), Some(word[2..].to_owned()))
                }
                None => (word.to_string(), None),
            };
            let mut value = || attached.clone().or_else(|| words.next().map(Into::into));
            match name.as_str() {
                "--no-huge" => read.hugepages = false,
                "--in-memory" => read.in_memory = true,
                "--huge-dir" => read.huge_dir = value(),
                "--main-lcore" => read.main_lcore = value().and_then(|it| it.parse().ok()),
                "-m" => read.megabytes = value().and_then(|it| it.parse().ok()),
                "--socket-mem" | "--numa-mem" => {
                    let each = value().unwrap_or_default();
                    let each = each.split(',').filter_map(|it| it.parse::<u64>().ok());
                    read.megabytes = Some(each.sum());
                }
                "-l" | "--lcores" => read.lcores = value().map(|it| lcores(&it)),
                "-c" => read.lcores = value().map(|it| mask(&it)),
                "--vdev" => {
                    let device = value().unwrap_or_default();
                    let (name, arguments) = device.split_once(',').unwrap_or((&device, ""));
                    read.vdevs.push(Vdev {
                        name: name.to_owned(),
                        arguments: arguments.to_owned(),
                    });
                }
                _ => {}
            }
        }
        read
    }

    /// Each lcore's CPUs. Without a word of them there is one for each CPU that the process may run on.
    pub(super) fn lcores(&self, allowed: &[u32]) -> BTreeMap<u32, Vec<u32>> {
        let each = || allowed.iter().map(|cpu| (*cpu, vec![*cpu])).collect();
        self.lcores.clone().unwrap_or_else(each)
    }

    /// Megabytes that EAL takes at most, if the words bound them.
    pub(super) fn memory_mb(&self) -> Option<u64> {
        let default = (!self.hugepages).then_some(DEFAULT_MB);
        self.megabytes.or(default)
    }
}

fn mask(text: &str) -> BTreeMap<u32, Vec<u32>> {
    let digits = text.trim_start_matches("0x");
    let mask = u128::from_str_radix(digits, 16).unwrap_or(0);
    let set = (0..u128::BITS).filter(|bit| mask >> bit & 1 == 1);
    set.map(|cpu| (cpu, vec![cpu])).collect()
}

/// Lcores and their CPUs, such as `0-2`, `0@4,1@(5-6)` or `(0-1)@(4,5)`.
fn lcores(text: &str) -> BTreeMap<u32, Vec<u32>> {
    let mut found = BTreeMap::new();
    for item in items(text) {
        let (ids, cpus) = match item.split_once('@') {
            Some((ids, cpus)) => (set(ids), Some(set(cpus))),
            None => (set(item), None),
        };
        let is_group = item.starts_with('(');
        for id in &ids {
            let own = match &cpus {
                Some(cpus) => cpus.clone(),
                None if is_group => ids.clone(),
                None => vec![*id],
            };
            found.insert(*id, own);
        }
    }
    found
}

/// The parts between commas that stand in no parentheses.
fn items(text: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0_u32, 0);
    let mut items = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    items
}

fn set(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.trim_matches(['(', ')', '[', ']']).split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<u32>()) {
            numbers.extend(first..=last.min(4096));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> EalWords {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        EalWords::read(&words)
    }

    #[test]
    fn lcores_have_the_cpus_that_the_words_give_them() {
        for (line, expected) in [
            ("p", vec![(8, vec![8]), (9, vec![9])]),
            ("p -l 2,3", vec![(2, vec![2]), (3, vec![3])]),
            ("p -l2-3", vec![(2, vec![2]), (3, vec![3])]),
            (
                "p --lcores=0@(4-5),1@6",
                vec![(0, vec![4, 5]), (1, vec![6])],
            ),
            (
                "p --lcores (0-1)@(4,5)",
                vec![(0, vec![4, 5]), (1, vec![4, 5])],
            ),
            ("p -c 0x5", vec![(0, vec![0]), (2, vec![2])]),
        ] {
            let lcores: Vec<_> = read(line).lcores(&[8, 9]).into_iter().collect();
            assert_eq!(lcores, expected, "{line}");
        }
    }

    #[test]
    fn memory_and_devices_are_read_in_each_form() {
        let words = read(
            "p --no-huge -m 512 --vdev net_vhost0,iface=/s,tso=1 --vdev=net_null0 --huge-dir=/h --main-lcore 3",
        );
        assert!(!words.hugepages && !words.in_memory);
        assert_eq!((words.memory_mb(), words.main_lcore), (Some(512), Some(3)));
        assert_eq!(words.huge_dir.as_deref(), Some("/h"));
        assert_eq!(words.vdevs[0].name, "net_vhost0");
        assert_eq!(words.vdevs[0].arguments, "iface=/s,tso=1");
        assert_eq!(words.vdevs[1].name, "net_null0");
        assert_eq!(read("p --no-huge").memory_mb(), Some(64));
        assert_eq!(read("p --in-memory").memory_mb(), None);
        assert_eq!(read("p --socket-mem 1024,512").memory_mb(), Some(1536));
    }
}
