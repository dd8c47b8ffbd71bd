//! What `--help` and `--version` print.

/// The answer to `--version`, without a line end.
pub const VERSION: &str = concat!("dpdk-colo ", env!("CARGO_PKG_VERSION"));

/// The answer to `--help`, with a line end.
pub const USAGE: &str = "\
Usage: dpdk-colo [EAL options] -- --role primary   --guest PORT --uplink PORT --link PORT
                                  --qmp SOCKET [options]
       dpdk-colo [EAL options] -- --role secondary --guest PORT --link PORT [--uplink PORT]
                                  --qmp SOCKET [options]
       dpdk-colo [EAL options] -- --role compare   --primary-in PORT --secondary-in PORT
                                  --out PORT [--qmp SOCKET] [options]
       dpdk-colo [EAL options] -- --config FILE [options]

A network proxy for COLO: the output of a primary VM leaves once its secondary has sent the same;
where the two differ, QEMU is asked for a checkpoint, and the output leaves when that is done.

Ports (PORT is an ethdev's name, such as net_vhost0; each has one place):
  --guest PORT           vhost port to this node's VM
  --uplink PORT          port to the network; a secondary uses it after a failover
  --link PORT            port to the other node
  --primary-in PORT      compare: frames that the primary VM sent
  --secondary-in PORT    compare: frames that the secondary VM sent
  --out PORT             compare: where released frames leave
  --mtu BYTES            MTU of the uplink, or of the comparator's ports, from 68 to 9216
                         (default: what the device or its interface has)

QEMU:
  --qmp SOCKET           QMP monitor of this node's VM: path of a unix socket, or host:port;
                         without it a comparator only reports
  --compare-timeout MS   age at which an unmatched frame asks for a checkpoint (default 3000)
  --raw-secondary        compare: the secondary's TCP numbers are its own, not rewritten
  --vm-id N              id of the VM pair on the link, the same on both nodes (default 0)

When the other node is lost (primary, secondary):
  --heartbeat MS         something is sent on the link at least this often (default 20)
  --heartbeat-loss N     the peer is lost when N heartbeats in a row did not come (default 25)
  --on-peer-lost WHAT    what makes it certain that the peer's VM sends nothing any more:
                         hold (default): only QEMU's word, given by x-colo-lost-heartbeat;
                         release: the loss itself, where no secondary ever takes over;
                         exec:COMMAND: a fencing command whose exit status 0 says so
  --failover WHO         who gives QEMU that command: manual (default) or auto, the node
                         itself once it is certain

Bounds:
  --hold-frames N        frames held for the VM pair (default 16384)
  --flows N              flows that the table can hold (default 65536)
  --idle-sleep US        sleep after a run of empty polls (default 0: never sleep)

What it tells:
  --stats-period S       print a table every S seconds (default 0: none)
  --summary FILE         write counters and latencies as JSON at the end
  --report-dir DIR       write each divergence as JSON beside a pcapng with both frames
  --capture DIR          write every frame and event for dpdk-colo-audit; for tests and the
                         analysis of incidents: each frame is copied, and disks fill
  --capture-limit MIB    bound on all captures in DIR, earlier runs' included (default 16384;
                         0: none)

  --config FILE          TOML with the same keys, [[pair]] and [[policy]] tables; an option
                         given here overrides it
  -h, --help             print this and exit
  -V, --version          print the version and exit

EAL options choose cores, memory and devices: -l, --vdev, --no-huge, --in-memory, --file-prefix.
The EAL parameters page of DPDK's guide lists them all. --log-level lib.vhost.config:info turns on
the vhost library's messages, of which it otherwise prints warnings only.
Exit status: 0 after SIGINT or SIGTERM, 1 after a failure at run time, 2 for a usage error.

Example, with no hardware and no QEMU:
  dpdk-colo --no-huge --vdev net_null0 --vdev net_null1 --vdev net_null2 -- \\
      --role compare --primary-in net_null0 --secondary-in net_null1 --out net_null2
";
