//! The comparator against the model: equal and different streams, datagrams, epochs, scarcity, bursts, long frames.

use crate::{bursts, datagrams, division, epochs, garbage, streams};
use colo_testkit::rng::Rng;

const PROPERTIES: &[fn(&mut Rng)] = &[
    streams::equal_streams,
    streams::a_byte_that_differs,
    streams::a_flipped_byte,
    streams::a_control_bit_alone,
    streams::acknowledgments,
    datagrams::equal_datagrams,
    datagrams::a_datagram_alone,
    epochs::several_epochs,
    epochs::scarcity,
    bursts::bursts_of_both,
    bursts::a_difference_in_a_burst,
    division::long_frames,
    garbage::garbage_between_good_frames,
];

/// The first draw says which property.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    PROPERTIES[rng.below(PROPERTIES.len())](&mut rng);
}
