//! With the feature `cuda`, compiles the kernels of `cuda/` for the supported cards.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// The compute capabilities that the kernels are compiled for. For newer cards the driver compiles the PTX
/// of the last one.
const CAPABILITIES: [&str; 4] = ["80", "86", "89", "90"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    for changed in ["CUDA_HOME", "PATH"] {
        println!("cargo::rerun-if-env-changed={changed}");
    }
    println!("cargo::rerun-if-changed=cuda");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut sources: Vec<PathBuf> =
        fs::read_dir("cuda")?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    sources.sort();
    // attention.cu takes more than half of the time.
    thread::scope(|scope| {
        let compile = |source: &Path| compile(source, &out);
        let (attention, others): (Vec<_>, Vec<_>) =
            sources.iter().partition(|source| source.file_stem().is_some_and(|stem| stem == "attention"));
        let attention = scope.spawn(move || attention.into_iter().try_for_each(|source| compile(source)));
        others.into_iter().try_for_each(|source| compile(source))?;
        attention.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let mut list = String::from("&[\n");
    for source in &sources {
        let stem = source.file_stem().ok_or("a source without a name")?.to_string_lossy();
        let image = fatbin(source, &out);
        writeln!(list, "    ({stem:?}, include_bytes!({:?})),", image.display().to_string())?;
    }
    list.push(']');
    Ok(fs::write(out.join("fatbins.rs"), list)?)
}

fn fatbin(source: &Path, out: &Path) -> PathBuf {
    out.join(source.with_extension("fatbin").file_name().unwrap_or_default())
}

fn compile(source: &Path, out: &Path) -> Result<(), String> {
    let nvcc =
        env::var_os("CUDA_HOME").map_or_else(|| PathBuf::from("nvcc"), |home| PathBuf::from(home).join("bin/nvcc"));
    let mut command = Command::new(&nvcc);
    command.args(["-fatbin", "-std=c++17", "-O3", "-lineinfo", "-Xfatbin", "-compress-all"]);
    for capability in CAPABILITIES {
        command.arg("-gencode").arg(format!("arch=compute_{capability},code=sm_{capability}"));
    }
    let last = CAPABILITIES[CAPABILITIES.len() - 1];
    command.arg("-gencode").arg(format!("arch=compute_{last},code=compute_{last}"));
    command.arg(source).arg("-o").arg(fatbin(source, out));
    let output = command.output().map_err(|error| {
        format!(
            "cannot run {}: {error}; the feature `cuda` needs the CUDA compiler; `make cuda` installs one, or set CUDA_HOME",
            nvcc.display()
        )
    })?;
    if !output.status.success() {
        return Err(format!("{} does not compile:\n{}", source.display(), String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}
