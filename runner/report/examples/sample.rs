//! Prints the report of a sample run: as HTML without an argument, as text with `text`; with `empty` the HTML report of an
//! empty run.

#[path = "../tests/sample/mod.rs"]
mod sample;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        None => print!("{}", report::html(&sample::run(), &[sample::collection()])?),
        Some("empty") => print!("{}", report::html(&sample::empty(), &[])?),
        Some("text") => print!("{}", report::text(&sample::run())),
        Some(other) => return Err(format!("unknown argument {other:?}; known: empty, text").into()),
    }
    Ok(())
}
