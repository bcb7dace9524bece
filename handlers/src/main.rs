//! The workers of a car platform: the list of their handlers, and the demo.

use car_workers::demo;

fn main() -> anyhow::Result<()> {
    pitcrew::App::new(car_workers::handlers())
        .about("The workers of a car platform: recommendation briefs, and who is told about them")
        .command(demo::command(), demo::run)
        .command(demo::worker_command(), demo::work)
        .main()
}
