//! kubectl and helm against the cluster.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs `program` against the cluster of `kubeconfig` and returns its standard output.
///
/// # Errors
/// The program fails; the error has its output.
pub(crate) async fn run(
    program: &Path,
    kubeconfig: &Path,
    home: &Path,
    arguments: &[&str],
    input: &str,
) -> Result<String> {
    let command_line =
        format!("{} {}", program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy(), arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        // The clients' caches are deleted with the cluster, and the user's settings do not apply.
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        tokio::spawn(async move {
            // A program that does not read its input closes the pipe, which is not an error.
            let _ = stdin.write_all(input.as_bytes()).await;
        });
    }
    let output = child.wait_with_output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command_line}: {}\n{}{text}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
