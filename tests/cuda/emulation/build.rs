//! Compiles the kernels as C++, with the emulation in place of CUDA.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

/// The CUDA sources that ship in the runner.
const KERNELS: &str = "../../../runner/kernels/cuda";
/// The emulation, and the kernels of its own tests.
const EMULATION: &str = "cpp";

fn main() -> Result<(), Box<dyn Error>> {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings(false)
        .include("include")
        .include(KERNELS)
        .define("EMBEDRUN_EMULATED", None);
    // Kernels read the same memory as values of different types. Without contraction every machine rounds alike.
    build.flag("-fno-strict-aliasing").flag("-ffp-contract=off").flag("-fno-math-errno").flag("-Wno-unknown-pragmas");
    build.flag("-xc++");
    build.files(sources(KERNELS)?).files(sources(EMULATION)?);
    // Kernels are found by name at run time: nothing refers to them when the tests are linked.
    build.link_lib_modifier("+whole-archive");
    build.try_compile("emulated_kernels")?;
    for path in [KERNELS, EMULATION, "include"] {
        println!("cargo::rerun-if-changed={path}");
    }
    Ok(())
}

/// The files of a folder to compile, sorted.
fn sources(folder: &str) -> Result<Vec<PathBuf>, io::Error> {
    let is_source = |path: &Path| path.extension().is_some_and(|extension| extension == "cu" || extension == "cpp");
    let entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, io::Error>>()?;
    let mut sources: Vec<PathBuf> = entries.into_iter().filter(|path| is_source(path)).collect();
    sources.sort();
    Ok(sources)
}
