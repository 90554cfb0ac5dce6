//! The `longnet` program.
fn main() {}
