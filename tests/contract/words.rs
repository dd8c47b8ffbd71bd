//! Words that readers do not know, with the words that take their place.

use super::source::{File, files};

/// Phrases that code, comments, tests and documents do not use, and what they say instead. Names count as words:
/// `gives_back` and `GivesBack` are "gives back". A phrase is as long as other uses require: "tell" is a verb of
/// functions that post a message, a host or an echo "comes back", and "it takes so long that" is no length of time.
const WORDS: &[(&str, &str)] = &[
    ("after so long", "after this time"),
    ("at leisure", "later, or by the slow period"),
    ("at the word of", "on the command of"),
    ("be it ever so", "however"),
    ("both come back", "both are returned"),
    ("both frames come back", "both frames are returned"),
    ("can tell", "can distinguish, or knows"),
    ("cannot tell", "cannot distinguish, or does not know"),
    ("dealt out", "assigned"),
    ("dealt with", "handled"),
    ("did not live to", "died before it could"),
    ("does not tell", "does not say, or does not report"),
    ("express way", "fast path"),
    ("for so long", "for this time"),
    ("foretell", "predict"),
    ("frame comes back when", "returns the frame when"),
    ("gave back", "returned"),
    ("give back", "return"),
    ("given back", "returned"),
    ("gives back", "returns"),
    ("giving back", "returning"),
    ("glance", "shallow parse"),
    ("has to mind", "must respect, or keeps"),
    ("heir", "standby"),
    ("honestly", "(nothing)"),
    ("house", "layer"),
    ("in vain", "without success"),
    ("it comes back where", "it is returned where"),
    ("its word that", "its message that"),
    ("left so long", "left for this time"),
    ("leisure", "slow period"),
    ("little waits", "few waiting frames"),
    ("manners", "scheduling policy"),
    ("never speaks again", "never leads again"),
    ("nobody to tell", "nobody to notify"),
    ("of one s own", "own, or separate"),
    ("on the word of", "because of, or the message's name"),
    ("one that speaks", "one that leads"),
    ("overheard", "standby backlog"),
    ("parted", "split"),
    ("pure room", "pure module"),
    ("room it comes back", "room it is returned"),
    ("rooms", "modules"),
    ("short way", "fast path"),
    ("shortest way", "fast path for pairs"),
    ("so many", "the number, or its name"),
    ("so much later", "after this time"),
    ("stopped so often", "the number of stops"),
    ("stride", "receive balance, or step"),
    ("tell each other", "send each other"),
    ("tell of", "report, or show"),
    ("tell what", "report what"),
    ("tell whether", "say whether"),
    ("tell who", "say who"),
    ("telling", "sending, reporting"),
    ("tells", "sends, reports, says, distinguishes"),
    ("to its grave", "until it died"),
    ("to tell", "to send, to report, to distinguish"),
    ("told", "sent, reported, or the message's name"),
    ("trail", "history"),
    ("twin", "counterpart"),
    ("twins", "pairs in lock-step"),
    ("two vms would speak", "two VMs would send"),
    ("wait so long", "wait for at most this time"),
    ("waited so long", "waited for this time"),
    ("waits so long", "waits for at most this time"),
    ("whoever", "the role: caller, reader, peer"),
    ("whomever", "the role: caller, reader, peer"),
];

/// Names that no item has, and the field's names for them.
const NAMES: &[(&str, &str)] = &[
    ("Bare", "Standalone"),
    ("Bed", "Fixture"),
    ("Fitted", "TxPrep"),
    ("Front", "Dispatcher"),
    ("FrontEnd", "DispatcherEnd"),
    ("Inheritance", "HandoverState"),
    ("Joining", "MbufReassembler"),
    ("Openings", "HandshakeGate"),
    ("Protection", "OutputCommit"),
    ("Remote", "WorkerHandle"),
    ("Seat", "WorkerConfig"),
    ("Shares", "RedirectionTable"),
    ("Sorter", "Classifier"),
    ("Splitting", "MbufFragmenter"),
    ("Team", "PairCores"),
    ("TwoSpeakers", "SplitBrain"),
];

/// Where the words are searched.
const SEARCHED: &[&str] = &[
    "src",
    "csrc",
    "docs",
    "audit",
    "coloctl",
    "doctor",
    "lab",
    "bench",
    "tests",
    "testkit",
    "fuzz/src",
    "fuzz/tests",
    "fuzz/fuzz_targets",
    "hugepages",
    "packaging",
    "examples",
    "scripts",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "Makefile",
    "Cargo.toml",
    "build.rs",
];

/// This list itself.
const LIST: &str = "tests/contract/words.rs";

/// The words of a text in lower case, each with its line. Parts of names are words.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut lower = false;
        for c in line.chars().chain([' ']) {
            let ends = !c.is_alphanumeric() || lower && c.is_uppercase();
            if ends && !word.is_empty() {
                words.push((number + 1, std::mem::take(&mut word)));
            }
            if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
            }
            lower = c.is_lowercase();
        }
    }
    words
}

/// Lines in which a phrase begins.
fn lines_with(words: &[(usize, String)], phrase: &str) -> Vec<usize> {
    let phrase: Vec<_> = phrase.split(' ').collect();
    words
        .windows(phrase.len())
        .filter(|window| window.iter().map(|(_, word)| word).eq(&phrase))
        .map(|window| window[0].0)
        .collect()
}

/// Lines that have a name.
fn lines_naming(text: &str, name: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.lines()
        .enumerate()
        .filter(|(_, line)| {
            let code = line.split("//").next().unwrap_or_default();
            code.split(|c| !is_name(c)).any(|word| word == name)
        })
        .map(|(number, _)| number + 1)
        .collect()
}

fn searched() -> Vec<File> {
    let extensions = ["rs", "md", "h", "c", "toml", "sh", "py", "json", ""];
    SEARCHED
        .iter()
        .flat_map(|below| files(below, &extensions))
        .filter(|file| file.path != LIST)
        .collect()
}

#[test]
fn words_that_readers_do_not_know_are_not_used() {
    let files = searched();
    assert!(files.len() > 400, "only {} files were found", files.len());
    let mut faults = Vec::new();
    for File { path, text } in &files {
        let words = words(text);
        for (phrase, instead) in WORDS {
            for line in lines_with(&words, phrase) {
                faults.push(format!("{path}:{line}: {phrase:?}, say: {instead}"));
            }
        }
        for (name, instead) in NAMES.iter().filter(|_| path.ends_with(".rs")) {
            for line in lines_naming(text, name) {
                faults.push(format!("{path}:{line}: the name {name}, say: {instead}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{}\n{} in all",
        faults.join("\n"),
        faults.len()
    );
}

#[test]
fn a_phrase_is_found_in_text_and_names_and_across_lines() {
    let words = words("it gives_back\n/// so\n/// many; GiveBack retold\n");
    assert_eq!(lines_with(&words, "gives back"), [1]);
    assert_eq!(lines_with(&words, "so many"), [2]);
    assert_eq!(lines_with(&words, "give back"), [3]);
    assert!(lines_with(&words, "told").is_empty());
    assert_eq!(
        lines_naming("a\nlet x = Front::new(); // Bed\n", "Front"),
        [2]
    );
    assert!(lines_naming("Frontier // Front", "Front").is_empty());
}
