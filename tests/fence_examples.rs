//! The sample fencing commands (`examples/fence`): status 0 only when the peer is certainly down.
//!
//! What they call is a script here, that says what a test wants.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Status of a fencing command where `tool` is this script. `sleep` does not wait.
fn fence(name: &str, tool: &str, script: &str) -> Option<i32> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    put(&dir, tool, &format!("#!/bin/sh\n{script}\n"));
    put(&dir, "sleep", "#!/bin/sh\n");
    let settings = "PEER_BMC=192.0.2.20 BMC_USER=u BMC_PASSWORD_FILE=/dev/null\n\
                    HYPERVISOR=test:///default PEER_DOMAIN=host2\n\
                    PEER=u@192.0.2.2 PEER_KEY=/dev/null PEER_PIDFILE=$DIR/pid\n";
    put(&dir, "settings", settings);
    let path = std::env::var("PATH").unwrap_or_default();
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/fence")
        .join(name);
    let output = Command::new(script)
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .env("FENCE_CONFIG", dir.path().join("settings"))
        .env("DIR", dir.path())
        .output();
    output.expect("it runs").status.code()
}

fn put(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is there");
}

const DOWN: Option<i32> = Some(0);

#[test]
fn a_controller_that_says_off_is_certain() {
    let says = |status: &str| {
        let script = format!("case $* in *'power status') {status} ;; *) exit 1 ;; esac");
        fence("ipmi", "ipmitool", &script)
    };
    assert_eq!(says("echo Chassis Power is off"), DOWN);
    for status in [
        "echo Chassis Power is on",
        "exit 1",
        "echo Chassis Power is off >&2",
    ] {
        assert_ne!(says(status), DOWN, "{status}");
    }
    let late = "case $* in *off) touch $DIR/off;; *) \
                if [ -e $DIR/seen ]; then echo Chassis Power is off; else touch $DIR/seen; echo on; fi;; esac";
    assert_eq!(fence("ipmi", "ipmitool", late), DOWN);
}

#[test]
fn a_hypervisor_that_says_shut_off_is_certain() {
    let says = |state: &str| {
        let script = format!("case $3 in domstate) {state} ;; *) exit 1 ;; esac");
        fence("virsh", "virsh", &script)
    };
    assert_eq!(says("echo 'shut off'"), DOWN);
    for state in [
        "echo running",
        "echo 'in shutdown'",
        "echo crashed",
        "exit 1",
        "echo 'shut off' >&2",
    ] {
        assert_ne!(says(state), DOWN, "{state}");
    }
}

#[test]
fn a_peer_that_says_gone_is_certain_and_one_that_says_nothing_is_not() {
    for (script, certain) in [
        ("echo gone", true),
        ("exit 0", false),
        ("exit 255", false),
        ("echo gone; exit 1", false),
        ("echo something is gone", false),
        ("exec sleep 0", false),
    ] {
        assert_eq!(fence("ssh", "ssh", script) == DOWN, certain, "{script}");
    }
}

#[test]
fn the_remote_half_ends_qemu_and_knows_it_by_its_name() {
    // The peer's shell is this one: the last two words are `--` and the file.
    let here = "exec sh -s -- $DIR/pid";
    // A process that looks like QEMU, whose parent has ended so that nobody has to reap it.
    let qemu = "cp /bin/sleep $DIR/qemu-stand-in; rm -f $DIR/sleep; \
                ( setsid $DIR/qemu-stand-in 60 >/dev/null 2>&1 & echo $! > $DIR/pid );";
    assert_eq!(fence("ssh", "ssh", &format!("{qemu} {here}")), DOWN);
    let other = "echo 1 > $DIR/pid;";
    assert_eq!(
        fence("ssh", "ssh", &format!("{other} {here}")),
        DOWN,
        "its process is gone"
    );
    assert_ne!(
        fence("ssh", "ssh", here),
        DOWN,
        "no file says which process it is"
    );
}
