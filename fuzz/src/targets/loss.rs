//! The comparator between a lossy network and VMs that repeat what is lost, each in its own way, with frames that are
//! to be cut.

use crate::loss;
use colo_testkit::rng::Rng;

/// The first draw says what else may happen.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    match rng.below(6) {
        0 => drop(loss::loss_alone(&mut rng)),
        1 => loss::loss_and_checkpoints(&mut rng),
        2 => loss::loss_and_little_history(&mut rng),
        3 => loss::loss_and_difference(&mut rng),
        4 => drop(loss::loss_and_another_byte(&mut rng)),
        _ => loss::loss_and_signatures(&mut rng),
    }
}
