//! Service Activator: photos of cars, good, bad and hostile, become pictures that can be shown.

#[path = "image/files.rs"]
mod files;

#[path = "image/address.rs"]
mod address;
#[path = "image/colour.rs"]
mod colour;
#[path = "image/drawing.rs"]
mod drawing;
#[path = "image/fetch.rs"]
mod fetch;
#[path = "image/good.rs"]
mod good;
#[path = "image/hostile.rs"]
mod hostile;
#[path = "image/look.rs"]
mod look;
#[path = "image/recipe.rs"]
mod recipe;
#[path = "image/scaled.rs"]
mod scaled;
#[path = "image/worker.rs"]
mod worker;
