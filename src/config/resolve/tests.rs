use std::path::Path;
use std::time::Duration;

use super::super::{
    File, LinkKey, PairKeys, PairSettings, PortName, ProcessKeys, Role, Settings, SettingsError,
    resolve,
};
use super::pair::DEFAULT_HOLD_FRAMES;

fn from_file(text: &str) -> Result<Settings, SettingsError> {
    with_command_line(PairKeys::default(), text)
}

fn with_command_line(cli: PairKeys, text: &str) -> Result<Settings, SettingsError> {
    let path = Path::new("colo.toml");
    let file = File::parse(text, path).expect("a file with known keys");
    resolve(ProcessKeys::default(), cli, Some((path, &file)))
}

fn port(name: &str) -> PortName {
    name.parse().expect("a port name")
}

const TWO_PAIRS: &str = r#"
    stats-period = 5
    compare-timeout = 100
    role = "compare"
    [[policy]]
    name = "ntp"
    action = "exempt"
    protocol = "udp"
    port = 123
    [[pair]]
    name = "web"
    primary-in = "a0"
    secondary-in = "a1"
    out = "a2"
    [[pair]]
    role = "secondary"
    vm-id = 7
    guest = "b0"
    link = "b1"
    link-key = "/etc/b.key"
    qmp = "/run/b.sock"
    compare-timeout = 50
    [[pair.policy]]
    name = "backup"
    action = "exempt"
    prefix = "10.9.0.0/16"
"#;

#[test]
fn a_file_has_many_pairs_with_defaults_at_the_top() {
    let settings = from_file(TWO_PAIRS).expect("two good pairs");
    assert_eq!(settings.process.stats_period, Some(Duration::from_secs(5)));
    let [web, other] = &settings.pairs[..] else {
        panic!("{} pairs", settings.pairs.len());
    };
    assert_eq!((web.name.as_str(), other.name.as_str()), ("web", "vm7"));
    assert_eq!((web.vm_id, other.vm_id), (0, 7));
    assert_eq!(web.compare_timeout, Duration::from_millis(100));
    assert_eq!(other.compare_timeout, Duration::from_millis(50));
    assert_eq!(web.hold_frames.get(), DEFAULT_HOLD_FRAMES);
    assert_eq!(web.role.role(), Role::Compare);
    let names = |pair: &PairSettings| -> Vec<String> {
        pair.policy
            .iter()
            .map(|rule| rule.name.to_string())
            .collect()
    };
    assert_eq!(names(web), ["ntp"]);
    assert_eq!(names(other), ["ntp", "backup"]);
    let places: Vec<_> = other
        .ports()
        .map(|(place, port)| (place.key(), port.as_str()))
        .collect();
    assert_eq!(places, [("guest", "b0"), ("link", "b1")]);
    let key = LinkKey::File("/etc/b.key".into());
    assert_eq!(
        (web.role.link_key(), other.role.link_key()),
        (None, Some(&key))
    );
}

#[test]
fn the_command_line_overrides_the_file() {
    let cli = PairKeys {
        compare_timeout: "9".parse().ok(),
        ..PairKeys::default()
    };
    let settings = with_command_line(cli, TWO_PAIRS).expect("a tunable for all pairs");
    let overridden = Duration::from_millis(9);
    for pair in &settings.pairs {
        assert_eq!(pair.compare_timeout, overridden, "{}", pair.name);
    }

    let one = "role = 'compare'\nprimary-in = 'a0'\nsecondary-in = 'a1'\nout = 'a2'";
    let cli = PairKeys {
        out: Some(port("x2")),
        ..PairKeys::default()
    };
    let settings = with_command_line(cli.clone(), one).expect("one pair");
    assert!(
        settings.pairs[0]
            .ports()
            .any(|(_, port)| port.as_str() == "x2")
    );
    assert_eq!(settings.pairs[0].name, "vm0");

    let error = with_command_line(cli, TWO_PAIRS).expect_err("which of the two?");
    assert_eq!(
        error.to_string(),
        "--out belongs to one pair, but --config has 2; set `out` in the pair's table"
    );
}

/// Two primaries at one link and one uplink.
fn sharers(first: &str, second: &str) -> String {
    let pair = |n: u8, more: &str| {
        format!("[[pair]]\nvm-id = {n}\nguest = 'g{n}'\nqmp = '/q{n}'\n{more}\n")
    };
    format!(
        "role = 'primary'\nlink = 'l'\nuplink = 'u'\nlink-key = '/k'\n{}{}",
        pair(1, first),
        pair(2, second)
    )
}

#[test]
fn pairs_may_share_a_link_and_an_uplink() {
    let settings = from_file(&sharers("mac = '52:54:00:00:00:01'", "")).expect("two pairs");
    let macs = settings.pairs.iter().map(|pair| pair.macs.len());
    assert_eq!(macs.collect::<Vec<_>>(), [1, 0]);
    for (first, second, line) in [
        (
            "",
            "name = 'x'\nvm-id = 1",
            "vm-id is also the id of pair \"vm1\" at the same link port l;",
        ),
        (
            "",
            "link-key = 'none'",
            "link l is also the link of pair \"vm1\": without a key",
        ),
        (
            "link-key = 'none'",
            "",
            "link l is also the link of pair \"vm1\": without a key",
        ),
        ("mtu = 1500", "", "mtu differs from that of pair \"vm1\","),
        (
            "mac = '52:54:00:00:00:01'",
            "mac = '52:54:00:00:00:02,52:54:00:00:00:01'",
            "mac 52:54:00:00:00:01 is also an address of pair \"vm1\"",
        ),
        ("", "link = 'u'", "port u is link and also uplink;"),
        (
            "",
            "guest = 'g1'",
            "port g1 is guest and also guest of pair \"vm1\";",
        ),
    ] {
        let text = sharers(first, second).replace(
            "vm-id = 2\nguest = 'g2'",
            match second {
                _ if second.contains("vm-id") => "guest = 'g2'",
                _ if second.contains("guest") => "vm-id = 2",
                _ => "vm-id = 2\nguest = 'g2'",
            },
        );
        let error = from_file(&text).expect_err(&text).to_string();
        assert!(error.contains(line), "{error}");
    }
}

#[test]
fn faults_name_the_file_the_pair_and_the_key() {
    let compare = "primary-in = 'a0'\nsecondary-in = 'a1'\nout = 'a2'";
    for (text, line) in [
        (
            "".to_owned(),
            "--config: \"colo.toml\": role is missing; set it to \"primary\", \"secondary\" or \"compare\"",
        ),
        (
            "role = 'primary'\nguest = 'g'\nuplink = 'u'\nlink = 'l'".to_owned(),
            "--config: \"colo.toml\": role primary needs qmp SOCKET",
        ),
        (
            "role = 'primary'\nguest = 'g'\nuplink = 'u'\nlink = 'l'\nqmp = '/q'".to_owned(),
            "--config: \"colo.toml\": role primary needs link-key FILE, or none where nobody else can send frames on \
             the link (--make-link-key FILE makes a key)",
        ),
        (
            format!("[[pair]]\nname = 'w'\nrole = 'compare'\nguest = 'g'\n{compare}"),
            "--config: \"colo.toml\" pair \"w\": role compare has no use for guest; remove it",
        ),
        (
            format!("role = 'compare'\n[[pair]]\n{compare}\n[[pair]]\nvm-id = 1\n{compare}"),
            "--config: \"colo.toml\" pair \"vm1\": port a0 is primary-in and also primary-in \
             of pair \"vm0\"; give each a port of its own",
        ),
        (
            format!(
                "role = 'compare'\n[[pair]]\n{compare}\n[[pair]]\n{}",
                compare.replace("'a", "'b")
            ),
            "--config: \"colo.toml\" pair \"vm0\": another pair has this name; give each its \
             own `name` or `vm-id`",
        ),
        (
            format!(
                "role = 'compare'\n{compare}\n{0}{0}",
                "[[policy]]\nname = 'x'\naction = 'exempt'\nvlan = 1\n"
            ),
            "--config: \"colo.toml\": two policy rules are called x; rename one",
        ),
        (
            format!(
                "role = 'compare'\n[[pair]]\nqmp = '/run/a.sock'\n{compare}\n[[pair]]\nvm-id = 1\n\
                 qmp = '/run//./a.sock'\n{}",
                compare.replace("'a", "'b")
            ),
            "--config: \"colo.toml\" pair \"vm1\": qmp /run//./a.sock is also the monitor of pair \"vm0\"; \
             give each pair the monitor of its own QEMU",
        ),
        (
            format!("role = 'compare'\n[[pair]]\nname = 'a b'\n{compare}"),
            "--config: \"colo.toml\" pair \"a b\": a pair's name has 1 to 64 printable ASCII \
             characters without a space; change it",
        ),
    ] {
        let error = from_file(&text).expect_err(&text);
        assert_eq!(error.to_string(), line);
    }
}
