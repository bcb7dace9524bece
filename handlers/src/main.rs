//! The workers of a car platform.
fn main() {}
