//! Writes the report of a sample to the standard output: as HTML, with `empty` that of a run over nothing, with `text`
//! as text.

#[path = "../tests/sample/mod.rs"]
mod sample;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        None => print!("{}", report::html(&sample::run(), &[sample::collection()])?),
        Some("empty") => print!("{}", report::html(&sample::empty(), &[])?),
        Some("text") => print!("{}", report::text(&sample::run())),
        Some(other) => return Err(format!("{other}: give nothing, empty or text").into()),
    }
    Ok(())
}
