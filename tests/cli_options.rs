//! The command line as a user meets it: what each line gives, and the one line that each mistake
//! prints.

use std::ffi::OsString;
use std::time::Duration;

use dpdk_colo::cli::{Command, Options, UsageError};
use dpdk_colo::config::{
    CaptureSettings, LinkKey, PairKeys, PortRole, QmpAddress, Role, RoleSettings, Settings,
};
use dpdk_colo::control;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn settings(line: &str) -> Result<Settings, UsageError> {
    match Options::parse(words(line))? {
        Command::Run(options) => options.settings(),
        text => panic!("{line}: {text:?}"),
    }
}

fn mistake(line: &str) -> String {
    let text = settings(line).expect_err(line).to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

const PRIMARY: &str =
    "--role primary --guest g0 --uplink u0 --link l0 --link-key /etc/k --qmp /run/p.sock";
const SECONDARY: &str =
    "--role secondary --guest g0 --link l0 --link-key none --qmp localhost:4444";
const COMPARE: &str = "--role compare --primary-in a --secondary-in b --out c";

#[test]
fn the_control_socket_has_a_place_or_none() {
    use dpdk_colo::config::ControlPlace;
    let control = |more: &str| {
        let settings = settings(&format!("{PRIMARY} {more}")).expect("complete");
        settings.process.control
    };
    assert_eq!(control("").place, ControlPlace::Runtime);
    assert_eq!(control("--control none").place, ControlPlace::None);
    let given = control("--control /run/c --control-group wheel");
    assert_eq!(given.place, ControlPlace::At("/run/c".into()));
    assert_eq!(given.group.as_deref(), Some("wheel"));
    assert!(mistake(&format!("{PRIMARY} --control")).contains("--control has no value"));
}

#[test]
fn metrics_are_served_where_the_operator_says() {
    use dpdk_colo::config::MetricsAddress;
    let served = |more: &str| {
        let settings = settings(&format!("{COMPARE} {more}")).expect("complete");
        settings.process.metrics
    };
    assert_eq!(served(""), None);
    assert_eq!(
        served("--metrics [::1]:9177"),
        Some(MetricsAddress::Tcp(
            "[::1]:9177".parse().expect("an address")
        ))
    );
    assert_eq!(
        served("--metrics=unix:/run/m"),
        Some(MetricsAddress::Unix("/run/m".into()))
    );
    let line = mistake(&format!("{COMPARE} --metrics 9177"));
    assert!(
        line.starts_with("--metrics \"9177\": give a numeric address with a port"),
        "{line}"
    );
}

#[test]
fn a_primary_has_its_ports_and_the_defaults() {
    let settings = settings(PRIMARY).expect("complete");
    assert_eq!(settings.process, Default::default());
    let [pair] = &settings.pairs[..] else {
        panic!("one pair")
    };
    assert_eq!((pair.name.as_str(), pair.vm_id), ("vm0", 0));
    assert_eq!(pair.compare_timeout, Duration::from_secs(3));
    assert_eq!((pair.hold_frames.get(), pair.flows.get()), (16384, 65536));
    assert_eq!(pair.checkpoint_share, 100);
    assert_eq!(pair.role.role(), Role::Primary);
    assert_eq!(
        pair.role.qmp(),
        Some(&QmpAddress::Unix("/run/p.sock".into()))
    );
    assert_eq!(pair.role.link_key(), Some(&LinkKey::File("/etc/k".into())));
    let ports: Vec<_> = pair
        .ports()
        .map(|(place, port)| (place, port.as_str()))
        .collect();
    assert_eq!(
        ports,
        [
            (PortRole::Guest, "g0"),
            (PortRole::Uplink, "u0"),
            (PortRole::Link, "l0")
        ]
    );
    for (slot, (place, _)) in pair.ports().enumerate() {
        assert_eq!(place.slot(), slot);
    }
}

#[test]
fn a_secondary_may_have_an_uplink() {
    let ports = |line: &str| settings(line).expect(line).pairs[0].ports().count();
    assert_eq!(ports(SECONDARY), 2);
    let trusted = settings(SECONDARY).expect("complete");
    assert_eq!(trusted.pairs[0].role.link_key(), Some(&LinkKey::Trusted));
    assert_eq!(ports(&format!("{SECONDARY} --uplink u0")), 3);
}

#[test]
fn a_running_node_says_of_each_option_of_a_pair_why_it_cannot_change() {
    let fixed = |name: &&&str| **name != "compare-timeout";
    for name in PairKeys::NAMES.iter().filter(fixed) {
        let arguments = [("name", *name), ("value", "1")];
        let arguments = arguments.map(|(key, value)| (key.to_owned(), value.into()));
        let fault = control::Command::read("set", arguments.into_iter().collect());
        assert!(
            matches!(fault, Err(control::Fault::Fixed { .. })),
            "--{name} is missing in src/control/command.rs"
        );
    }
}

#[test]
fn every_option_reaches_the_settings() {
    let settings = settings(&format!(
        "{COMPARE} --qmp [::1]:4444 --compare-timeout=1 --idle-sleep 50 --stall-limit 7 --stats-period 2 \
         --summary s.json --report-dir reports --capture log --capture-limit 3 --raw-secondary --vm-id 65535 --hold-frames 1 \
         --flows 16777216 --mtu 9000 --checkpoint-share 30"
    ))
    .expect("complete");
    assert_eq!(settings.process.idle_sleep, Some(Duration::from_micros(50)));
    assert_eq!(settings.process.stall_limit, Some(Duration::from_secs(7)));
    assert_eq!(settings.process.stats_period, Some(Duration::from_secs(2)));
    assert_eq!(settings.process.summary, Some("s.json".into()));
    assert_eq!(settings.process.report_dir, Some("reports".into()));
    let capture = CaptureSettings {
        dir: "log".into(),
        limit: 3 << 20,
    };
    assert_eq!(settings.process.capture, Some(capture));
    let pair = &settings.pairs[0];
    assert_eq!((pair.name.as_str(), pair.vm_id), ("vm65535", 65535));
    assert_eq!(pair.compare_timeout, Duration::from_millis(1));
    assert_eq!((pair.hold_frames.get(), pair.flows.get()), (1, 16_777_216));
    assert_eq!((pair.mtu, pair.checkpoint_share), (Some(9000), 30));
    let RoleSettings::Compare {
        qmp, raw_secondary, ..
    } = &pair.role
    else {
        panic!("{:?}", pair.role)
    };
    assert!(raw_secondary);
    assert_eq!(
        qmp.as_ref().map(ToString::to_string),
        Some("[::1]:4444".to_owned())
    );
}

#[test]
fn a_few_lost_heartbeats_make_no_loss() {
    for few in ["1", "2", "3"] {
        let text = mistake(&format!("{PRIMARY} --heartbeat-loss {few}"));
        for word in [
            "--heartbeat-loss",
            few,
            "from 4 to 10000",
            "a shorter --heartbeat",
        ] {
            assert!(text.contains(word), "{text}");
        }
    }
    let least = settings(&format!("{PRIMARY} --heartbeat-loss 4")).expect("valid");
    assert_eq!(least.pairs[0].failover.heartbeat_loss, 4);
}

#[test]
fn a_sleep_that_would_lose_a_living_peer_is_refused() {
    assert!(settings(&format!("{PRIMARY} --idle-sleep 125000")).is_ok());
    let error = settings(&format!("{PRIMARY} --idle-sleep 125001")).expect_err("too long");
    assert!(error.to_string().contains("at most 125000"), "{error}");
    let short = format!("{PRIMARY} --heartbeat 1 --heartbeat-loss 4 --idle-sleep");
    assert!(settings(&format!("{short} 1000")).is_ok());
    assert!(settings(&format!("{short} 1001")).is_err());
    // A comparator has no peer.
    assert!(settings(&format!("{COMPARE} --idle-sleep 1000000")).is_ok());
}

#[test]
fn zero_is_off() {
    let off = settings(&format!("{COMPARE} --stats-period 0")).expect("valid");
    assert_eq!(off.process, Default::default());
    assert_eq!(off.process.stall_limit, Some(Duration::from_secs(30)));
    let never = settings(&format!("{COMPARE} --stall-limit 0")).expect("valid");
    assert_eq!(never.process.stall_limit, None);
    assert_eq!(off.process.idle_sleep, Some(Duration::from_micros(250)));
    let awake = settings(&format!("{COMPARE} --idle-sleep 0")).expect("valid");
    assert_eq!(awake.process.idle_sleep, None);
    for (more, limit) in [("", 16 << 30), ("--capture-limit 0", u64::MAX)] {
        let settings = settings(&format!("{COMPARE} --capture c {more}")).expect("valid");
        assert_eq!(settings.process.capture.expect("one").limit, limit);
    }
}

#[test]
fn help_and_version_win_over_what_is_missing() {
    for (line, command) in [
        ("--help", Command::Help),
        ("-h", Command::Help),
        ("--role primary -V", Command::Version),
        ("--make-link-key k", Command::MakeLinkKey("k".into())),
        ("--version", Command::Version),
    ] {
        assert_eq!(Options::parse(words(line)).expect(line), command);
    }
}

#[test]
fn each_mistake_is_one_line_that_says_what_to_do() {
    let with = |rest: &str| format!("{PRIMARY} {rest}");
    for (line, text) in [
        (
            String::new(),
            "--role is missing; give `-- --role primary|secondary|compare` or `-- --config FILE`",
        ),
        (
            with("--mtu 9217"),
            "--mtu \"9217\": give a whole number from 68 to 9216",
        ),
        (
            "--role third".into(),
            "--role \"third\": a role is `primary`, `secondary` or `compare`",
        ),
        ("--role primary".into(), "role primary needs --guest PORT"),
        (
            "--role primary --guest a --uplink b --link c".into(),
            "role primary needs --qmp SOCKET",
        ),
        (
            "--role primary --guest a --uplink b --link c --qmp q".into(),
            "role primary needs --link-key FILE, or none where nobody else can send frames on the link \
             (--make-link-key FILE makes a key)",
        ),
        (
            format!("{COMPARE} --link-key none"),
            "role compare has no use for --link-key; remove it",
        ),
        (
            "--role secondary --guest a".into(),
            "role secondary needs --link PORT",
        ),
        (
            "--role compare --primary-in a --out b".into(),
            "role compare needs --secondary-in PORT",
        ),
        (
            with("--out c0"),
            "role primary has no use for --out; remove it",
        ),
        (
            with("--raw-secondary"),
            "role primary has no use for --raw-secondary; remove it",
        ),
        (
            format!("{COMPARE} --uplink d"),
            "role compare has no use for --uplink; remove it",
        ),
        (
            "--role primary --guest a --uplink b --link a --link-key none --qmp q".into(),
            "port a is --link and also --guest; give each a port of its own",
        ),
        (with("--guest g1"), "--guest is given twice; give it once"),
        (
            format!("{COMPARE} --raw-secondary --raw-secondary"),
            "--raw-secondary is given twice; give it once",
        ),
        (
            "--role compare --out".into(),
            "--out has no value; give one behind it, see dpdk-colo --help",
        ),
        (
            "--role compare --out --qmp x".into(),
            "--out has no value; give one behind it, see dpdk-colo --help",
        ),
        (
            "--role compare --out=".into(),
            "--out has no value; give one behind it, see dpdk-colo --help",
        ),
        (
            with("--compare-timeout 0"),
            "--compare-timeout \"0\": give a whole number from 1 to 3600000",
        ),
        (
            with("--vm-id 65536"),
            "--vm-id \"65536\": give a whole number from 0 to 65535",
        ),
        (
            with("--flows many"),
            "--flows \"many\": give a whole number from 1 to 16777216",
        ),
        (
            "--role primary --qmp host:0".into(),
            "--qmp \"host:0\": monitor address \"host:0\" does not end in a port from 1 to 65535; \
             write host:port, or a path with a slash",
        ),
        (
            with("--vdev net_null0"),
            "--vdev is an EAL option; put it before `--`",
        ),
        (with("-l 0"), "-l is an EAL option; put it before `--`"),
        (
            with("--primary_in x"),
            "unknown option \"--primary_in\" behind `--`; see dpdk-colo --help",
        ),
        (
            with("-x"),
            "unknown option \"-x\" behind `--`; see dpdk-colo --help",
        ),
        (
            with("extra"),
            "stray word \"extra\" behind `--`; every value follows an option, see dpdk-colo --help",
        ),
        (
            format!("{COMPARE} --raw-secondary=yes"),
            "--raw-secondary takes no value; remove it",
        ),
        (
            "--config /nonexistent/colo.toml".into(),
            "--config: cannot read \"/nonexistent/colo.toml\": No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(mistake(&line), text, "{line}");
    }
}

#[test]
fn a_file_and_options_go_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("colo.toml");
    std::fs::write(
        &path,
        "role = 'compare'\nprimary-in = 'a'\nsecondary-in = 'b'\nflows = 10\n",
    )
    .expect("a file");
    let line = format!("--config {} --out c --flows 20", path.display());
    let settings = settings(&line).expect("complete together");
    assert_eq!(settings.pairs[0].flows.get(), 20);
    assert_eq!(
        mistake(&format!("--config {}", path.display())),
        format!("--config: {path:?}: role compare needs out PORT")
    );
}
