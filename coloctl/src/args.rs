//! The words of the command line: the one definition of the help, the man page, the completions and the requests.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde_json::{Value, json};

/// What the exit status means.
pub const EXIT_STATUS: &str = "\
Exit status, as OCF resource agents have it:
  0  done; of status: the node runs and its VM does not lead
  1  refused, failed or not in time; of doctor: something is wrong; of compare: a capture is of no use
  2  wrong words, or no such pair
  7  no node runs there
  8  of status: the node runs and its VM leads
  9  of status: the node runs, and another VM has taken the place of its own, which is silent";

/// What the node's own bounds leave for a reply: an order may wait for a fencing command and for QEMU.
const PATIENCE: Duration = Duration::from_secs(70);

/// A VM with much memory and large disks takes its time; the node has bounds of its own.
const PROTECT: Duration = Duration::from_secs(86_400);

/// Show what a running dpdk-colo does and why, and give it orders
#[derive(Debug, Parser)]
#[command(name = "coloctl", version, after_help = EXIT_STATUS)]
pub struct Args {
    /// The node's control socket (default: the only one below EAL's runtime directories)
    #[arg(long, global = true, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// EAL's --file-prefix of the node, where several run
    #[arg(long, global = true, value_name = "PREFIX", conflicts_with = "control")]
    pub file_prefix: Option<String>,
    /// Print the reply as JSON, an error included
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Show each pair's role, state, why, and what to do
    Status {
        /// The pair (default: all)
        #[arg(long)]
        pair: Option<String>,
    },
    /// Wait until something is so
    Wait {
        /// What is waited for
        #[arg(long = "for", value_name = "WHAT")]
        condition: Condition,
        /// For how many seconds at most; 0: look once
        #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
        timeout: f64,
        /// The pair (default: all)
        #[arg(long)]
        pair: Option<String>,
    },
    /// Set COLO up: copy this node's running VM to the other node's QEMU, until both nodes are protected
    Protect {
        /// The pair (needed where there are several)
        #[arg(long)]
        pair: Option<String>,
        /// The same as --pair
        #[arg(value_name = "PAIR", conflicts_with = "pair", hide = true)]
        bare: Option<String>,
    },
    /// Let QEMU take a checkpoint, and wait for its commit
    Checkpoint {
        /// The pair (needed where there are several)
        #[arg(long)]
        pair: Option<String>,
    },
    /// Let the other node's VM lead from now on; this one's falls silent before, and its QEMU ends
    Switchover {
        /// The pair (needed where there are several)
        #[arg(long)]
        pair: Option<String>,
    },
    /// Let this node's VM go on without its peer; refused while the peer is heard
    Failover {
        /// The peer's VM certainly sends no more frames (default: the node runs its fencing command)
        #[arg(long)]
        fenced: bool,
        /// The peer's VM has not led since this node gave up its lead (needed where status has ceded)
        #[arg(long)]
        never_led: bool,
        /// The pair (needed where there are several)
        #[arg(long)]
        pair: Option<String>,
    },
    /// Announce a restart of this node to its peer, so that the peer waits for it
    Maintenance {
        /// on, or off, which is refused: an announcement ends by itself
        mode: Mode,
        /// The pair (default: all)
        #[arg(long)]
        pair: Option<String>,
    },
    /// Change a parameter of the running node
    Set {
        /// Its name: log-level or compare-timeout
        name: String,
        /// Its value
        value: String,
        /// The pair of a compare-timeout (default: all)
        #[arg(long)]
        pair: Option<String>,
    },
    /// Show what a pair is made of: its ports, lcores and settings
    Pair {
        /// What to do
        #[command(subcommand)]
        act: PairAct,
    },
    /// Show which output leaves without a comparison, and how much has
    Policy {
        /// What to do
        #[command(subcommand)]
        act: PolicyAct,
    },
    /// Record what a pair's ports see, for a reader
    Capture {
        /// What to do
        #[command(subcommand)]
        act: CaptureAct,
    },
    /// Count anew
    Stats {
        /// What to do
        #[command(subcommand)]
        act: StatsAct,
    },
    /// Rank reasons, ports and flows by the guest time that their checkpoints cost, and say what would help
    Why {
        /// The pair (default: all)
        #[arg(long)]
        pair: Option<String>,
        /// Of the last part of the time alone: a number with s, m, h or d (default: since the node leads)
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        since: Option<Duration>,
    },
    /// Compare what two captured guests sent, and predict what a pair of them would hold and which checkpoints it would
    /// make; asks no node
    Compare(crate::compare::Words),
    /// Examine this host, its node and its QEMU: what is wrong, where, and what to do
    Doctor(crate::doctor::Words),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page
    Man,
}

/// What is done with pairs.
#[derive(Debug, Subcommand)]
pub enum PairAct {
    /// Show ports, lcores and settings
    Show {
        /// The pair (default: all)
        #[arg(long)]
        pair: Option<String>,
    },
}

/// What is done with policy rules.
#[derive(Debug, Subcommand)]
pub enum PolicyAct {
    /// Show the rules, the default ones too, and the frames that each has let out
    List {
        /// The pair (default: all)
        #[arg(long)]
        pair: Option<String>,
    },
}

/// What is done with captures.
#[derive(Debug, Subcommand)]
pub enum CaptureAct {
    /// Begin: the node writes a pcapng file in its --report-dir, or in EAL's runtime directory
    Start {
        /// The file's name, such as x.pcapng (default: the pair's name and a random part)
        file: Option<String>,
        /// Its size at most, in MiB
        #[arg(long, value_name = "MIB", default_value_t = 64)]
        limit: u64,
        /// The pair (needed where there are several)
        #[arg(long)]
        pair: Option<String>,
    },
    /// End it, and show what was captured
    Stop {
        /// The pair (needed where there are several)
        #[arg(long)]
        pair: Option<String>,
    },
}

/// What is done with counts.
#[derive(Debug, Subcommand)]
pub enum StatsAct {
    /// Let status count checkpoints and losses of the peer from now on; metrics and telemetry go on
    Reset {
        /// The pair (default: all)
        #[arg(long)]
        pair: Option<String>,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Condition {
    /// QEMU's monitor answers
    Connected,
    /// The other node is heard
    Peer,
    /// The pair is protected
    Protected,
    /// This node's VM leads the pair
    Leads,
    /// This node's VM could go on without loss, were the other one certainly down
    Promotable,
}

/// Whether a restart is announced.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// It is
    On,
    /// It is no more
    Off,
}

/// A time as `90`, `90s`, `1.5m`, `2h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => {
            return Err(format!(
                "{unit:?} is no unit; give a number with s, m, h or d"
            ));
        }
    };
    let number: f64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| "give a number with s, m, h or d, such as 10m".to_owned())?;
    let time = Duration::try_from_secs_f64(number * seconds).ok();
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| "give more than 0, and less than all time".to_owned())
}

fn word(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Args {
    /// The command and its arguments, as the node takes them.
    pub fn request(&self) -> (&'static str, Value) {
        let (command, mut arguments, pair) = match &self.task {
            Task::Status { pair } => ("status", json!({}), pair),
            Task::Wait {
                condition,
                timeout,
                pair,
            } => {
                let arguments = json!({ "for": word(*condition), "timeout": timeout });
                ("wait", arguments, pair)
            }
            Task::Protect { pair, bare } => match pair {
                Some(_) => ("protect", json!({}), pair),
                None => ("protect", json!({}), bare),
            },
            Task::Checkpoint { pair } => ("checkpoint", json!({}), pair),
            Task::Switchover { pair } => ("switchover", json!({}), pair),
            Task::Failover {
                fenced,
                never_led,
                pair,
            } => (
                "failover",
                match never_led {
                    // An older node takes only what it knows.
                    false => json!({ "fenced": fenced }),
                    true => json!({ "fenced": fenced, "never_led": true }),
                },
                pair,
            ),
            Task::Maintenance { mode, pair } => {
                ("maintenance", json!({ "mode": word(*mode) }), pair)
            }
            Task::Set { name, value, pair } => {
                ("set", json!({ "name": name, "value": value }), pair)
            }
            Task::Pair {
                act: PairAct::Show { pair },
            } => ("pair-show", json!({}), pair),
            Task::Policy {
                act: PolicyAct::List { pair },
            } => ("policy-list", json!({}), pair),
            Task::Capture {
                act: CaptureAct::Start { file, limit, pair },
            } => {
                let mut arguments = json!({ "limit_mib": limit });
                if let Some(file) = file {
                    arguments["file"] = json!(file);
                }
                ("capture-start", arguments, pair)
            }
            Task::Capture {
                act: CaptureAct::Stop { pair },
            } => ("capture-stop", json!({}), pair),
            Task::Stats {
                act: StatsAct::Reset { pair },
            } => ("stats-reset", json!({}), pair),
            Task::Why { pair, since } => {
                let arguments = match since {
                    Some(since) => json!({ "since": since.as_secs_f64() }),
                    None => json!({}),
                };
                ("why", arguments, pair)
            }
            Task::Compare(_) | Task::Doctor(_) | Task::Completions { .. } | Task::Man => {
                ("status", json!({}), &None)
            }
        };
        if let Some(pair) = pair {
            arguments["pair"] = json!(pair);
        }
        (command, arguments)
    }

    /// How long the reply may take.
    pub fn patience(&self) -> Duration {
        match self.task {
            Task::Wait { timeout, .. } => {
                let own = Duration::try_from_secs_f64(timeout).unwrap_or_default();
                own.saturating_add(PATIENCE)
            }
            Task::Protect { .. } => PROTECT,
            _ => PATIENCE,
        }
    }
}

/// All commands that do something, each with its words in capitals.
fn all(command: &clap::Command) -> Vec<(String, &clap::Command)> {
    let mut found = Vec::new();
    for sub in command.get_subcommands() {
        let name = format!("COLOCTL {}", sub.get_name().to_uppercase());
        found.push((name.clone(), sub));
        let acts = sub.get_subcommands();
        found.extend(acts.map(|act| (format!("{name} {}", act.get_name().to_uppercase()), act)));
    }
    found
}

/// Writes one page for all commands.
pub fn man(out: &mut impl Write) -> io::Result<()> {
    let command = Args::command();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for (name, sub) in all(&command) {
        writeln!(out, ".SH \"{name}\"")?;
        let page = clap_mangen::Man::new(sub.clone());
        let mut text = Vec::new();
        page.render_description_section(&mut text)?;
        page.render_options_section(&mut text)?;
        // The page of the program has these as its own sections.
        for line in String::from_utf8_lossy(&text).lines() {
            match line.starts_with(".SH ") || line.starts_with(".ie ") || line.starts_with(".el ") {
                true => writeln!(out, ".PP")?,
                false => writeln!(out, "{line}")?,
            }
        }
    }
    page.render_extra_section(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> (&'static str, Value) {
        let args = Args::try_parse_from(line.split_whitespace());
        args.unwrap_or_else(|error| panic!("{line}: {error}"))
            .request()
    }

    #[test]
    fn the_definitions_contradict_each_other_nowhere() {
        Args::command().debug_assert();
    }

    #[test]
    fn words_become_requests() {
        for (line, command, arguments) in [
            ("coloctl status", "status", json!({})),
            (
                "coloctl --json status --pair a",
                "status",
                json!({"pair": "a"}),
            ),
            (
                "coloctl wait --for protected --timeout 2.5",
                "wait",
                json!({"for": "protected", "timeout": 2.5}),
            ),
            ("coloctl checkpoint --json", "checkpoint", json!({})),
            ("coloctl protect", "protect", json!({})),
            (
                "coloctl protect --pair vm1",
                "protect",
                json!({"pair": "vm1"}),
            ),
            ("coloctl protect vm1", "protect", json!({"pair": "vm1"})),
            ("coloctl pair show", "pair-show", json!({})),
            (
                "coloctl failover --fenced --never-led",
                "failover",
                json!({"fenced": true, "never_led": true}),
            ),
            (
                "coloctl policy list --pair a",
                "policy-list",
                json!({"pair": "a"}),
            ),
            (
                "coloctl capture start x.pcapng --limit 5 --pair a",
                "capture-start",
                json!({"file": "x.pcapng", "limit_mib": 5, "pair": "a"}),
            ),
            (
                "coloctl capture start",
                "capture-start",
                json!({"limit_mib": 64}),
            ),
            ("coloctl capture stop", "capture-stop", json!({})),
            ("coloctl --json stats reset", "stats-reset", json!({})),
            (
                "coloctl switchover --pair b",
                "switchover",
                json!({"pair": "b"}),
            ),
            (
                "coloctl failover --fenced",
                "failover",
                json!({"fenced": true}),
            ),
            (
                "coloctl maintenance on",
                "maintenance",
                json!({"mode": "on"}),
            ),
            (
                "coloctl set log-level error",
                "set",
                json!({"name": "log-level", "value": "error"}),
            ),
            ("coloctl why", "why", json!({})),
            (
                "coloctl why --pair a --since 1.5m",
                "why",
                json!({"pair": "a", "since": 90.0}),
            ),
        ] {
            assert_eq!(request(line), (command, arguments), "{line}");
        }
    }

    #[test]
    fn every_order_names_its_pair_alike() {
        for sub in Args::command().get_subcommands() {
            let bare = sub.get_positionals();
            let bare =
                bare.filter(|it| it.get_value_names().is_some_and(|names| names == ["PAIR"]));
            assert!(
                bare.into_iter().all(clap::Arg::is_hide_set),
                "{}",
                sub.get_name()
            );
        }
        Args::try_parse_from(["coloctl", "protect", "a", "--pair", "b"]).expect_err("which one?");
    }

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("10m", 600),
            ("0.5h", 1800),
            ("2d", 172_800),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "m",
            "1w",
            "1 h",
            "-3s",
            "0",
            "1e9d",
            "1.2.3s",
            "99999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_page_has_every_command_and_the_exit_statuses() {
        let mut page = Vec::new();
        man(&mut page).expect("a page");
        let page = String::from_utf8(page).expect("text");
        for (title, _) in all(&Args::command()) {
            assert!(page.contains(&title), "{title}");
        }
        assert!(page.contains("COLOCTL POLICY LIST"));
        assert!(page.contains("no node runs there") && page.contains("which is silent"));
    }
}
