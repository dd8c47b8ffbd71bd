//! Vhost-user sockets that a process left behind when it was killed.
//!
//! A vhost port, and a virtio_user port that is the server, listens on a unix socket whose file DPDK removes at a clean
//! end. After any other end the file is still there, and the node that is started again with the same words could not
//! listen. A file without a listener is removed; anything else is left alone.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::devices::devices;

/// Removes the dead sockets on which the devices in EAL's half of a command line would listen. Returns the
/// first error, which EAL would report less clearly.
///
/// # Errors
/// When a dead socket cannot be removed.
pub fn remove_dead_sockets(eal: &[OsString]) -> io::Result<()> {
    for path in devices(eal).filter_map(listens_at) {
        remove_if_dead(Path::new(path))?;
    }
    Ok(())
}

/// The socket on which a device listens: a vhost port that is not the client, or a virtio_user port
/// that is the server.
fn listens_at(device: &str) -> Option<&str> {
    let words = || device.split(',');
    let has = |wanted: &str| words().any(|word| word == wanted);
    let name = words().next()?;
    let key = if name.starts_with("net_vhost") || name.starts_with("eth_vhost") {
        (!has("client=1")).then_some("iface=")
    } else if name.starts_with("net_virtio_user") {
        has("server=1").then_some("path=")
    } else {
        None
    };
    words().find_map(|word| word.strip_prefix(key?))
}

fn remove_if_dead(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_a_dead_socket_of_a_listening_vhost_device_goes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        let dead = |name: &str| drop(UnixListener::bind(path(name)).expect("a socket"));
        for name in ["dead", "attached", "client", "other", "server"] {
            dead(name);
        }
        let _alive = UnixListener::bind(path("alive")).expect("a socket");
        fs::write(path("file"), b"").expect("a file");
        let d = dir.path().display();
        let line = format!(
            "p --vdev net_vhost0,iface={d}/dead,queues=1 --vdev=net_vhost1,iface={d}/attached \
             --vdev net_vhost2,iface={d}/client,client=1 --vdev net_virtio_user0,path={d}/other \
             --vdev net_vhost3,iface={d}/alive --vdev net_vhost4,iface={d}/file \
             --vdev net_vhost5,iface={d}/absent \
             --vdev net_virtio_user1,path={d}/server,server=1 --vdev"
        );
        remove_dead_sockets(&words(&line)).expect("nothing is in the way");
        let left = |name: &str| path(name).exists();
        assert!(!left("dead") && !left("attached") && !left("server"));
        assert!(left("client") && left("other") && left("alive") && left("file"));
    }
}
