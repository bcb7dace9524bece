//! What is acked is durable: no proof, no ack.

use pitcrew::transport::Delivery;

pub fn without_proof(delivery: Delivery) {
    delivery.ack(); //~ E0061 Committed
}
