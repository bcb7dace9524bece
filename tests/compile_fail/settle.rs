//! A delivery is acked once, and only with the proof that its fate is durable.

use pitcrew::{committer::Committed, transport::Delivery};

pub fn twice(delivery: Delivery, one: Committed, other: Committed) {
    delivery.ack(one);
    delivery.ack(other); //~ E0382 moved
}

pub fn one_proof_for_two(one: Delivery, other: Delivery, proof: Committed) {
    one.ack(proof);
    other.ack(proof); //~ E0382 moved
}
