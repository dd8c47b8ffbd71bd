//! The guest: its memory, its NIC, its ring.

use super::pairs;
use crate::facts::Facts;
use crate::finding::Findings;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (_, pair, seen) in pairs(facts) {
        let place = format!("pair {}: guest", pair.name);
        let alone = pair.role == "compare";
        if let Some(qemu) = seen.qemu.as_ref().filter(|_| !alone) {
            for ram in qemu.ram.iter().filter(|ram| !ram.shared) {
                found.error(
                    "memory-not-shared",
                    place.as_str(),
                    format!(
                        "its memory {:?} is not shared, so the vhost port reads no frame of it",
                        ram.id
                    ),
                    "start QEMU with -machine ...,memory-backend=mem -object \
                     memory-backend-memfd,id=mem,size=...,share=on",
                );
            }
            for nic in &qemu.nics {
                if nic.guest_announce == Some(true) {
                    found.error(
                        "guest-announce",
                        place.as_str(),
                        format!(
                            "{}: guest_announce is on: after a checkpoint one VM announces itself and the other does not",
                            nic.path
                        ),
                        "start QEMU with -device virtio-net-pci,...,guest_announce=off",
                    );
                }
            }
        }
        let Some(status) = &seen.status else {
            continue;
        };
        let should_run = status.role == "primary" || status.migration == "colo";
        if should_run && status.monitor == "connected" && status.ring == Some(false) {
            let has_vm = seen.qemu.as_ref().and_then(|qemu| qemu.run.as_deref());
            let runs = has_vm.is_none_or(|run| run == "running");
            if runs {
                found.error(
                    "ring-stands",
                    place,
                    "it does not use its vhost port: the VM has no network",
                    "see that QEMU's -netdev vhost-user names the port's socket, that memory is shared, that the guest \
                     has loaded its virtio-net driver and set its interface up",
                );
            }
        }
    }
}
