//! The workers of a car platform: the list of their handlers.

fn main() -> anyhow::Result<()> {
    pitcrew::App::new(car_workers::handlers()).main()
}
