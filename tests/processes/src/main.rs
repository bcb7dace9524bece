//! A worker like any other, whose messages say how they go.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    pitcrew::App::new(processes::handlers()).about("The worker of the tests of whole processes").main()
}
