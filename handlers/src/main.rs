//! The workers of a car platform: the list of their handlers, and the demo.

use car_workers::demo;

fn main() -> anyhow::Result<()> {
    pitcrew::App::new(car_workers::handlers())
        .command(demo::command(), demo::run)
        .command(demo::worker_command(), demo::work)
        .main()
}
