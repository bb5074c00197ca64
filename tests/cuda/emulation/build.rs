//! Compiles the kernels as C++, with the emulation in place of CUDA.

use std::{error::Error, fs, path::Path};

/// The CUDA sources that ship in the runner.
const KERNELS: &str = "../../../runner/kernels/cuda";

fn main() -> Result<(), Box<dyn Error>> {
    let kernels = Path::new(KERNELS);
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings(false)
        .include("include")
        .include(kernels)
        .define("EMBEDRUN_EMULATED", None);
    // Kernels read the same memory as values of different types; products are not contracted on one machine alone.
    build.flag("-fno-strict-aliasing").flag("-ffp-contract=off").flag("-fno-math-errno").flag("-Wno-unknown-pragmas");
    build.flag("-xc++");
    let mut sources: Vec<_> =
        fs::read_dir(kernels)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    sources.sort();
    build.files(sources.iter().filter(|path| path.extension().is_some_and(|extension| extension == "cu")));
    build.files(["src/emulation.cpp", "src/checks.cu"]);
    // Kernels are found by name at run time: nothing refers to them when the tests are linked.
    build.link_lib_modifier("+whole-archive");
    build.try_compile("emulated_kernels")?;
    for path in [KERNELS, "include", "src/emulation.cpp", "src/checks.cu"] {
        println!("cargo::rerun-if-changed={path}");
    }
    Ok(())
}
