//! The workers of a car platform: the list of their handlers, and the demo.

use car_workers::{demo, history::simulate};

/// Messages are made on one thread and freed on another: with the C library's allocator that is a third of a worker's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    pitcrew::App::new(car_workers::handlers())
        .about("The workers of a car platform: recommendation briefs, vehicle histories, and who is told")
        .command(demo::command(), demo::run)
        .command(demo::worker_command(), demo::work)
        .command(simulate::command(), simulate::run)
        .main()
}
