//! The fuzz targets: [`inputs`] has a function per kind of input, and `targets/` a program per function.

pub mod inputs;
