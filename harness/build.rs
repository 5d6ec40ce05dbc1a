//! Records how the program was built, for the provenance of every run.

use std::process::Command;

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    println!("cargo::rustc-env=BUILD_RUSTC={}", output(&rustc, &["--version"]).unwrap_or_default());
    println!("cargo::rustc-env=BUILD_TARGET={}", env("TARGET"));
    println!("cargo::rustc-env=BUILD_OPT_LEVEL={}", env("OPT_LEVEL"));
    // Cargo tells build scripts `debug` or `release` only; the folder under `target` carries the profile's own name.
    let out = env("OUT_DIR");
    let profile =
        std::path::Path::new(&out).ancestors().nth(3).and_then(|p| p.file_name()).map(|p| p.to_string_lossy());
    let profile = match profile.as_deref() {
        Some("debug") | None => "dev".to_owned(),
        Some(name) => name.to_owned(),
    };
    println!("cargo::rustc-env=BUILD_PROFILE={profile}");
    if let Some(git) = output("git", &["rev-parse", "--git-dir"]) {
        println!("cargo::rerun-if-changed={git}/HEAD");
        println!("cargo::rerun-if-changed={git}/index");
        if let Some(logs) = output("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo::rerun-if-changed={logs}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    for path in ["../engine", "../suites", "../reports/src", "../Cargo.toml", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rustc-env=BUILD_GIT={}", output("git", &["rev-parse", "HEAD"]).unwrap_or_default());
    let dirty = output("git", &["status", "--porcelain", "--untracked-files=no"]).map(|s| !s.is_empty());
    println!("cargo::rustc-env=BUILD_DIRTY={}", dirty.map_or(String::new(), |d| d.to_string()));
}
