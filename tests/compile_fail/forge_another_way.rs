//! Nor is there another way to one.

use pitcrew::committer::Committed;

pub fn defaulted() -> Committed {
    Committed::default() //~ E0599 default
}

pub fn copied(proof: &Committed) -> Committed {
    proof.clone() //~ E0308 Committed
}
