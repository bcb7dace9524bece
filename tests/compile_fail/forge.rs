//! Only the committer mints a proof.

use pitcrew::committer::Committed;

pub fn forged() -> Committed {
    Committed { _minted_here: () } //~ E0451 private
}
