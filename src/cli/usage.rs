//! What `--help` and `--version` print.

/// The answer to `--version`, without a line end.
pub const VERSION: &str = concat!("dpdk-colo ", env!("CARGO_PKG_VERSION"));

/// The answer to `--help`, with a line end.
pub const USAGE: &str = "\
Usage: dpdk-colo [EAL options] -- --role primary   --guest PORT --uplink PORT --link PORT
                                  --link-key FILE --qmp SOCKET [options]
       dpdk-colo [EAL options] -- --role secondary --guest PORT --link PORT [--uplink PORT]
                                  --link-key FILE --qmp SOCKET [options]
       dpdk-colo [EAL options] -- --role compare   --primary-in PORT --secondary-in PORT
                                  --out PORT [--qmp SOCKET] [options]
       dpdk-colo [EAL options] -- --config FILE [options]
       dpdk-colo --make-link-key FILE

With --check among its options a line is judged, and nothing starts.

A network proxy for COLO. The output of a primary VM leaves once its secondary has sent the same.
Where the two differ, the node asks QEMU for a checkpoint; the output leaves after it.

Ports (PORT is an ethdev's name, such as net_vhost0; each has one role):
  --guest PORT           vhost port to this node's VM
  --uplink PORT          port to the network; a secondary uses it after a failover
  --link PORT            port to the other node
                         (several pairs of a file may share an uplink, and a link)
  --mac MAC[,MAC...]     addresses of this node's VM at an uplink that pairs share (default:
                         learned from what leaves)
  --link-key FILE|none   secret that both nodes share: only frames sealed with it count; none
                         declares the link trusted
  --primary-in PORT      compare: receives the primary VM's frames
  --secondary-in PORT    compare: receives the secondary VM's frames
  --out PORT             compare: transmits released frames
  --mtu BYTES            MTU of the uplink, or of the comparator's ports, from 68 to 9216
                         (default: what the device or its interface has)

QEMU:
  --qmp SOCKET           QMP monitor of this node's VM: path of a unix socket, or host:port;
                         without it a comparator only reports
  --migrate-listen HOST:PORT
                         address of this host at which a secondary's QEMU waits for the VM's state:
                         coloctl protect
  --nbd-listen HOST:PORT address of this host at which a secondary's QEMU takes the writes to its
                         disks
  --compare-timeout MS   age at which an unmatched frame asks for a checkpoint (default 3000)
  --raw-secondary        compare: the secondary's TCP numbers are its own, not rewritten
  --vm-id N              id of the VM pair on the link, the same on both nodes (default 0)

When the other node is lost (primary, secondary):
  --heartbeat MS         send on the link at least this often (default 20)
  --heartbeat-loss N     the peer is lost after N missed heartbeats in a row, at least 4
                         (default 25)
  --heartbeat-udp LOCAL,REMOTE
                         addresses with ports, over which the control threads of both nodes
                         report that their poll cores run; needs a key, not --link-key none
  --peer-stall-limit MS  wait so long for a peer whose poll core gets no CPU, by its reports
                         (default 5000)
  --restart-limit MS     wait so long for a peer whose restart was announced: SIGUSR1 announces
                         one (default 30000)
  --on-peer-lost ACTION  how the node becomes certain that the peer is fenced:
                         hold (default): QEMU takes x-colo-lost-heartbeat;
                         release: at once, where no secondary ever takes over;
                         exec:COMMAND: a fencing command (STONITH) ends with status 0
  --failover WHO         who gives QEMU x-colo-lost-heartbeat: manual (default), or auto:
                         the node, once it is certain

Control:
  --control PATH|none    socket for coloctl (default: colo-control.sock in EAL's runtime directory)
  --control-group GROUP  let this group use it, too, by name or number (default: its owner alone)

Bounds:
  --hold-frames N        frames held for the VM pair (default 16384)
  --flows N              flows that the table can hold (default 65536)
  --checkpoint-share N   percent of the time for which checkpoints for differences may stop the
                         VM (default 100: no limit); a difference then waits 1 s at most
  --idle-sleep US        longest sleep of a poll core that has no work (default 250; 0: never
                         sleep, for cores of their own)
  --stall-limit S        end this process when QEMU has waited so long for a poll core that
                         stands still (default 30; 0: never)

Reporting:
  --stats-period S       print a table every S seconds (default 0: none)
  --summary FILE         write counters and latencies as JSON at the end
  --metrics ADDR:PORT|unix:PATH
                         serve OpenMetrics over HTTP there, at /metrics (default: nowhere)
  --report-dir DIR       write divergences as JSON, and both frames as pcapng
  --capture DIR          record every frame and event for dpdk-colo-audit. For tests and
                         incidents: each frame is copied, and disks fill
  --capture-limit MIB    limit of all captures in DIR, earlier runs included (default 16384;
                         0: none)

  --config FILE          TOML with the same keys, [[pair]] and [[policy]] tables; options on
                         the command line override it
  --check                print the settings in force, the memory of each pair, and what is wrong
                         with it all on this host, and exit; --check=json: the same as JSON
  --make-link-key FILE   write a new secret to FILE, mode 0600, and exit
  -h, --help             print this and exit
  -V, --version          print the version and exit

EAL options choose cores, memory and devices: -l, --vdev, --no-huge, --in-memory, --file-prefix.
The EAL parameters page of DPDK's guide lists them all. The vhost library logs warnings only;
--log-level lib.vhost.config:info enables its other messages.
Exit status: 0 after SIGINT or SIGTERM, 1 after a failure at run time, 2 for a usage error;
with --check 0 if nothing is wrong, 1 or 2 otherwise.

Example, with no hardware and no QEMU:
  dpdk-colo --no-huge --vdev net_null0 --vdev net_null1 --vdev net_null2 -- \\
      --role compare --primary-in net_null0 --secondary-in net_null1 --out net_null2
";

#[cfg(test)]
mod tests {
    use super::super::options::OTHERS;
    use super::USAGE;
    use crate::config::PairKeys;

    #[test]
    fn the_usage_names_every_option() {
        for option in PairKeys::NAMES.iter().chain(OTHERS) {
            let line = USAGE.lines().find(|line| {
                line.trim_start()
                    .strip_prefix("--")
                    .and_then(|rest| rest.strip_prefix(*option))
                    .is_some_and(|rest| rest.starts_with(' '))
            });
            assert!(line.is_some(), "no line of USAGE begins with --{option}");
        }
        for option in ["-h, --help ", "-V, --version "] {
            assert!(USAGE.contains(option), "{option}");
        }
        let longest = USAGE.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{longest:?}");
    }
}
