//! The program whose processes the tools run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::CliError;

/// The given program; without one, `stormglass` is built from this repository, optimised.
///
/// # Errors
/// If the given path is no file, or if the program does not build.
pub(super) fn find_or_build(given: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(path) = given {
        if !path.is_file() {
            return Err(format!("--program {}: there is no such file", path.display()).into());
        }
        return Ok(path.canonicalize()?);
    }
    build("stormglass", "stormglass")
}

/// Builds a program of this repository, optimised.
///
/// # Errors
/// If it does not build.
pub(crate) fn build(package: &str, program: &str) -> Result<PathBuf, CliError> {
    let built = cargo(&repository())
        .args(["build", "--release", "--package", package, "--bin", program])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    match executable {
        Some(path) if built.status.success() => Ok(path),
        Some(_) | None => Err(format!("the program {program} does not build").into()),
    }
}

/// Cargo, in this directory.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.current_dir(directory);
    command
}

/// The repository that contains this package.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
