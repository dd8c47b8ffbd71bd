//! A protected pair in virtual time: two guests, two QEMUs that take checkpoints in QEMU's order,
//! both nodes' own drivers over ports of queues, a network that fails, and an oracle that knows what every VM said.
//!
//! `DPDK_COLO_CASES` runs more cases of each family; `DPDK_COLO_SEED` and one case replay the run
//! that a failure names. Each test is a family: what may go wrong in its runs.

mod client;
mod frame;
mod frames;
mod guest;
mod link;
mod log;
mod monitor;
mod nodes;
mod oracle;
mod outcome;
mod ports;
mod profile;
mod qemu;
mod setup;
mod tcp;
mod world;

use colo_testkit::rng::for_cases;
use outcome::Outcome;
use profile::{Fault, Profile};
use qemu::Release;
use world::World;

/// What a family's runs came to, and the seed that replays them with as many cases.
struct Family {
    sum: Outcome,
    seed: u64,
}

/// Runs a family; where it has at least the usual number of runs, what it is about must have happened.
fn family(name: &str, usual: usize, profile: Profile) -> Family {
    family_of(name, usual, profile, |_| {})
}

fn family_of(
    name: &str,
    usual: usize,
    profile: Profile,
    mut judge: impl FnMut(&Outcome),
) -> Family {
    let (mut sum, mut runs) = (Outcome::default(), 0);
    let seed = for_cases(name, usual, |rng| {
        let outcome = World::new(profile, rng.next()).run();
        judge(&outcome);
        sum += outcome;
        runs += 1;
    });
    if runs >= usual {
        eprintln!("{name}: {sum:?}");
        sum.check_coverage(&profile);
    }
    Family { sum, seed }
}

/// Checkpoints as they come, from the outside.
const CHECKPOINTS: &[Fault] = &[Fault::Checkpoint, Fault::TwoCheckpoints];

#[test]
fn equal_vms_need_no_checkpoint() {
    let judge = |outcome: &Outcome| {
        let more = outcome.checkpoints - 1;
        assert!(more <= outcome.requested, "COLO's beginning is one of them");
        assert!(outcome.released_equal > 0, "nothing was ever compared");
    };
    let Family { sum, seed } = family_of("calm", 30, Profile::CALM, judge);
    // Of a connection that lived when protection began, the SVM may never say what the PVM had said just before; or it
    // says that again by its own timer when the PVM, whose client has acknowledged it, need not. The node does not know
    // what left before it compared (docs/loss.md). That happens in less than one run of a hundred, so that more than
    // three of 30 runs are one family of several thousand.
    assert!(
        sum.requested == sum.midstream && sum.requested <= 3,
        "asked for: {:?}, {} of them in mid-stream, DPDK_COLO_SEED={seed:#x}",
        sum.causes,
        sum.midstream
    );
}

#[test]
fn loss_between_node_and_client_hardly_needs_a_checkpoint() {
    let profile = Profile {
        loss: 100,
        ..Profile::CALM
    };
    let Family { sum, seed } = family("loss", 60, profile);
    let (lost, overtook, requested) = (sum.lost, sum.overtook, sum.requested);
    // What left before anything was compared, and is lost, is not known to have left (docs/loss.md).
    assert!(
        overtook > 0 && requested <= 6,
        "{lost} lost, {overtook} overtook, {requested} requested, DPDK_COLO_SEED={seed:#x}"
    );
}

#[test]
fn differing_answers_leave_after_a_commit() {
    family(
        "divergent",
        30,
        Profile {
            divergent: 50,
            ..Profile::CALM
        },
    );
}

#[test]
fn a_checkpoint_hardly_ever_leads_to_another() {
    // Enough cases that the number of requests varies little.
    let Family { sum, seed } = family(
        "checkpoints",
        200,
        Profile {
            faults: CHECKPOINTS,
            ..Profile::CALM
        },
    );
    let (requested, checkpoints) = (sum.requested, sum.checkpoints);
    // A message that a second checkpoint overtakes may cost a third.
    assert!(
        requested <= checkpoints / 20,
        "{checkpoints} checkpoints, {requested} of them asked for, DPDK_COLO_SEED={seed:#x}"
    );
}

#[test]
fn a_lagging_monitor_commits_nothing_too_early() {
    family(
        "monitor",
        20,
        Profile {
            faults: &[
                Fault::Checkpoint,
                Fault::TwoCheckpoints,
                Fault::SlowMonitor,
                Fault::CutMonitor,
            ],
            divergent: 10,
            monitor: 5_000,
            ..Profile::CALM
        },
    );
}

#[test]
fn a_bad_link_hides_no_loss() {
    family(
        "link",
        20,
        Profile {
            faults: &[Fault::LossyLink, Fault::DeadLink, Fault::Checkpoint],
            divergent: 5,
            link: 600,
            ..Profile::CALM
        },
    );
}

#[test]
fn a_slow_link_keeps_epochs_apart() {
    family(
        "slow_link",
        20,
        Profile {
            faults: CHECKPOINTS,
            divergent: 10,
            link: 4_000,
            ..Profile::CALM
        },
    );
}

#[test]
fn stops_that_are_no_checkpoint_commit_nothing() {
    family(
        "stops",
        20,
        Profile {
            faults: &[
                Fault::ResetDriver,
                Fault::OperatorStop,
                Fault::OperatorBlink,
                Fault::Checkpoint,
                Fault::TwoCheckpoints,
            ],
            divergent: 10,
            monitor: 2_000,
            ..Profile::CALM
        },
    );
}

#[test]
fn whatever_an_operator_does_to_either_vm_commits_nothing_on_any_release() {
    for (name, release) in [
        ("operator_7_2", Release::V7_2),
        ("operator_11_0", Release::V11_0),
        ("operator_11_1", Release::V11_1),
    ] {
        for (delay, name) in [(200, name), (2_000, &*format!("{name}_slow"))] {
            family(
                name,
                40,
                Profile {
                    faults: &[
                        Fault::ContInside,
                        Fault::ContInsideSecondary,
                        Fault::OperatorStop,
                        Fault::OperatorStopSecondary,
                        Fault::OperatorBlink,
                        Fault::Checkpoint,
                        Fault::TwoCheckpoints,
                    ],
                    divergent: 10,
                    monitor: delay,
                    link: delay,
                    release: Some(release),
                    ..Profile::CALM
                },
            );
        }
    }
}

#[test]
fn a_restarted_primary_lets_nothing_out() {
    family(
        "restart_primary",
        20,
        Profile {
            faults: &[
                Fault::RestartPrimary,
                Fault::RestartPrimary,
                Fault::Checkpoint,
                Fault::CutMonitor,
            ],
            divergent: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn a_restarted_secondary_is_not_believed() {
    family(
        "restart",
        20,
        Profile {
            faults: &[
                Fault::RestartSecondary,
                Fault::Checkpoint,
                Fault::TwoCheckpoints,
                Fault::CutSecondaryMonitor,
            ],
            divergent: 5,
            ..Profile::CALM
        },
    );
}

#[test]
fn slow_guests_and_ports_lose_nothing() {
    family(
        "slow",
        20,
        Profile {
            faults: &[
                Fault::StallSecondary,
                Fault::StallPrimary,
                Fault::BlockUplink,
                Fault::BlockLink,
                Fault::NoHeaders,
                Fault::Checkpoint,
            ],
            divergent: 5,
            calls: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn a_round_is_right_wherever_its_thread_loses_the_cpu() {
    for (name, faults) in [
        ("preempted", CHECKPOINTS),
        (
            "preempted_stops",
            &[
                Fault::ResetDriver,
                Fault::OperatorStop,
                Fault::OperatorBlink,
                Fault::Checkpoint,
                Fault::TwoCheckpoints,
            ],
        ),
        (
            "preempted_deaths",
            &[Fault::KillPrimary, Fault::KillSecondary, Fault::Checkpoint],
        ),
    ] {
        family(
            name,
            40,
            Profile {
                faults,
                divergent: 10,
                preempt: 100,
                ..Profile::CALM
            },
        );
    }
}

#[test]
fn a_survivor_goes_on() {
    family(
        "failover",
        20,
        Profile {
            faults: &[Fault::FailOver, Fault::FailedCheckpoint, Fault::Checkpoint],
            divergent: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn an_svm_takes_over_in_every_phase() {
    family(
        "takeover",
        60,
        Profile {
            faults: &[
                Fault::KillPrimary,
                Fault::KillPrimary,
                Fault::Checkpoint,
                Fault::StallSecondary,
                Fault::BlockUplink,
            ],
            divergent: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn an_svm_takes_over_behind_a_slow_link() {
    family(
        "slow_takeover",
        40,
        Profile {
            faults: &[
                Fault::KillPrimary,
                Fault::Checkpoint,
                Fault::TwoCheckpoints,
                Fault::SlowMonitor,
            ],
            divergent: 10,
            link: 3_000,
            monitor: 2_000,
            ..Profile::CALM
        },
    );
}

#[test]
fn a_pvm_goes_on_without_its_svm() {
    family(
        "alone",
        40,
        Profile {
            faults: &[Fault::KillSecondary, Fault::Checkpoint, Fault::SlowMonitor],
            divergent: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn survivors_are_protected_again() {
    family(
        "again",
        60,
        Profile {
            faults: &[
                Fault::KillPrimary,
                Fault::KillSecondary,
                Fault::KillPrimary,
                Fault::Checkpoint,
            ],
            divergent: 10,
            calls: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn a_partition_makes_nobody_speak_twice() {
    family(
        "partition",
        30,
        Profile {
            faults: &[Fault::Partition, Fault::Checkpoint],
            divergent: 10,
            ..Profile::CALM
        },
    );
    family(
        "split",
        40,
        Profile {
            faults: &[Fault::Split, Fault::Checkpoint],
            divergent: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn nothing_opens_beside_an_svm_that_goes_on_unheard() {
    family(
        "usurp",
        40,
        Profile {
            faults: &[Fault::Usurp],
            calls: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn the_lead_moves_as_planned_and_no_two_speak() {
    family(
        "switchover",
        60,
        Profile {
            faults: &[
                Fault::Switchover,
                Fault::Switchover,
                Fault::Checkpoint,
                Fault::BlockUplink,
                Fault::StallSecondary,
            ],
            divergent: 10,
            ..Profile::CALM
        },
    );
}

#[test]
fn whatever_fails_while_the_lead_moves_no_two_speak_and_no_byte_is_lost() {
    let profile = Profile {
        faults: &[
            Fault::Switchover,
            Fault::Switchover,
            Fault::LossyLink,
            Fault::DeadLink,
            Fault::RestartPrimary,
            Fault::RestartSecondary,
            Fault::CutMonitor,
            Fault::CutSecondaryMonitor,
            Fault::Checkpoint,
        ],
        divergent: 10,
        link: 1_000,
        monitor: 1_000,
        ..Profile::CALM
    };
    let Family { sum, seed } = family("switchover_failures", 150, profile);
    assert!(
        sum.taken_back > 0 && sum.survivals > 0,
        "no lead was taken back: {sum:?}, DPDK_COLO_SEED={seed:#x}"
    );
}

#[test]
fn a_protection_ends_as_planned_and_nobody_is_fenced() {
    let profile = Profile {
        faults: &[Fault::Unprotect, Fault::Checkpoint, Fault::StallSecondary],
        divergent: 10,
        failover: FENCING,
        ..Profile::CALM
    };
    let Family { sum, seed } = family("unprotect", 60, profile);
    assert_eq!(
        (sum.fences, sum.takeovers),
        (0, 0),
        "somebody was fenced, DPDK_COLO_SEED={seed:#x}"
    );
}

#[test]
fn whatever_fails_while_a_protection_ends_one_vm_speaks_and_no_byte_is_lost() {
    let profile = Profile {
        faults: &[
            Fault::Unprotect,
            Fault::Unprotect,
            Fault::LossyLink,
            Fault::DeadLink,
            Fault::RestartPrimary,
            Fault::RestartSecondary,
            Fault::CutMonitor,
            Fault::CutSecondaryMonitor,
            Fault::Checkpoint,
        ],
        divergent: 10,
        link: 1_000,
        monitor: 1_000,
        ..Profile::CALM
    };
    let Family { sum, seed } = family("unprotect_failures", 150, profile);
    assert_eq!(
        (sum.fences, sum.takeovers),
        (0, 0),
        "the SVM went on, DPDK_COLO_SEED={seed:#x}"
    );
}

#[test]
fn who_fences_first_goes_on() {
    let Family { sum, .. } = family(
        "fence",
        40,
        Profile {
            faults: &[Fault::Partition, Fault::KillPrimary, Fault::Checkpoint],
            divergent: 10,
            failover: FENCING,
            ..Profile::CALM
        },
    );
    assert!(sum.survivals > 0, "nobody went on: {sum:?}");
}

/// A node fences its peer by itself once that is lost.
const FENCING: dpdk_colo::protect::Failover = dpdk_colo::protect::Failover {
    on_peer_lost: dpdk_colo::protect::OnPeerLost::Fence,
    auto: true,
    retry: 1_000,
};

#[test]
fn a_node_without_cpu_is_waited_for() {
    let profile = Profile {
        faults: &[Fault::Starve, Fault::Checkpoint],
        divergent: 10,
        failover: FENCING,
        ..Profile::CALM
    };
    let Family { sum, seed } = family("starve", 40, profile);
    assert_eq!(
        sum.fences, 0,
        "a living node is fenced, DPDK_COLO_SEED={seed:#x}"
    );
}

#[test]
fn a_node_that_dies_is_fenced_though_another_had_no_cpu() {
    let profile = Profile {
        faults: &[Fault::Starve, Fault::KillPrimary, Fault::KillSecondary],
        divergent: 10,
        failover: FENCING,
        ..Profile::CALM
    };
    let Family { sum, .. } = family("starve_deaths", 40, profile);
    assert!(sum.fences > 0, "{sum:?}");
}

#[test]
fn a_driver_that_comes_late_is_protected() {
    family(
        "late_driver",
        20,
        Profile {
            faults: CHECKPOINTS,
            divergent: 10,
            monitor: 3_000,
            late_driver: true,
            ..Profile::CALM
        },
    );
}

#[test]
fn an_svm_whose_ring_never_runs_gets_checkpoints_nevertheless() {
    family(
        "mute",
        20,
        Profile {
            faults: CHECKPOINTS,
            divergent: 10,
            monitor: 2_000,
            mute: true,
            ..Profile::CALM
        },
    );
}

const EVERYTHING: Profile = Profile {
    faults: &[
        Fault::LossyLink,
        Fault::DeadLink,
        Fault::CutMonitor,
        Fault::CutSecondaryMonitor,
        Fault::SlowMonitor,
        Fault::ResetDriver,
        Fault::OperatorStop,
        Fault::OperatorBlink,
        Fault::OperatorStopSecondary,
        Fault::ContInside,
        Fault::ContInsideSecondary,
        Fault::RestartPrimary,
        Fault::RestartSecondary,
        Fault::StallSecondary,
        Fault::StallPrimary,
        Fault::BlockUplink,
        Fault::BlockLink,
        Fault::NoHeaders,
        Fault::Checkpoint,
        Fault::TwoCheckpoints,
    ],
    divergent: 10,
    calls: 8,
    monitor: 3_000,
    link: 1_000,
    confused: false,
    late_driver: true,
    mute: false,
    loss: 40,
    release: None,
    failover: Profile::CALM.failover,
    preempt: 0,
};

#[test]
fn everything_at_once() {
    family("everything", 80, EVERYTHING);
}

#[test]
fn a_node_that_mistakes_a_load_does_no_harm() {
    let profile = Profile {
        confused: true,
        ..EVERYTHING
    };
    family("confused", 40, profile);
}
