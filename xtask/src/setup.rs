//! libtorch from PyPI's wheels, into a cache that all clones share; `.libtorch` in the clone points there.
//!
//! The wheel is fetched with the ordinary pip client and a pinned checksum. On a machine without a GPU two libraries
//! of the wheel and two small CUDA ones (needed to load, never used) are enough: 500 MB instead of 4.9 GB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::places::{cache, root};

/// Wheels of the CPU set-up: requirement, sha256, platform tags to ask pip for.
const CPU_WHEELS: [(&str, &str, &[&str]); 3] = [
    ("torch==2.11.0", "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756", &["manylinux_2_28_x86_64"]),
    (
        "nvidia-cuda-cupti==13.0.85",
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        &["manylinux_2_25_x86_64"],
    ),
    (
        "nvidia-cuda-runtime==13.0.96",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        &["manylinux2014_x86_64", "manylinux_2_17_x86_64"],
    ),
];

/// `cargo xtask setup [--cuda]`.
pub fn setup(args: &[String]) -> Result<()> {
    let cuda = match args {
        [] => false,
        [flag] if flag == "--cuda" => true,
        _ => bail!("usage: cargo xtask setup [--cuda]"),
    };
    ensure_libtorch(cuda)
}

/// Makes sure that `LIBTORCH` points at something; does nothing when it already does.
pub fn ensure_libtorch(cuda: bool) -> Result<()> {
    let link = root().join(".libtorch");
    if let Some(own) = std::env::var_os("LIBTORCH").map(PathBuf::from).filter(|own| *own != link) {
        if !own.join("include").is_dir() || !own.join("lib").is_dir() {
            bail!(
                "LIBTORCH={}: no include/ and lib/ there; unset it to let `cargo xtask setup` fetch one",
                own.display()
            );
        }
        eprintln!("libtorch: yours, at {}", own.display());
        return need_compiler();
    }
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        bail!("set-up knows Linux on x86-64 only; elsewhere set LIBTORCH to a libtorch 2.11.0 of your own");
    }
    need_compiler()?;
    // Of CUDA 13: a folder by another name lacks libraries that are wanted now.
    let kind = if cuda { "cuda13" } else { "cpu" };
    let home = cache().join(format!("libtorch-2.11.0-{kind}"));
    if !home.join("complete").exists() {
        need_python()?;
        let started = Instant::now();
        let aside = cache().join(format!("libtorch-2.11.0-{kind}.{}.tmp", std::process::id()));
        let wheels = cache().join("wheels");
        fs::create_dir_all(aside.join("lib")).with_context(|| format!("cannot create {}", aside.display()))?;
        fs::create_dir_all(&wheels)?;
        if cuda {
            fetch_all(&wheels.join("cuda"), &aside)?
        } else {
            fetch_cpu(&wheels, &aside)?
        }
        fs::write(aside.join("complete"), "torch 2.11.0\n")?;
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::rename(&aside, &home).with_context(|| format!("cannot move libtorch to {}", home.display()))?;
        fs::remove_dir_all(&wheels)?;
        eprintln!("libtorch: ready in {} after {:.0} s", home.display(), started.elapsed().as_secs_f64());
    }
    if fs::read_link(&link).ok().as_deref() == Some(home.as_path()) {
        return Ok(());
    }
    // A plain `setup` or `demo` keeps the CUDA libtorch that somebody asked for.
    if !cuda && link.join("complete").exists() {
        return Ok(());
    }
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&home, &link).with_context(|| format!("cannot link {}", link.display()))
}

fn fetch_cpu(wheels: &Path, aside: &Path) -> Result<()> {
    for (requirement, sha256, platforms) in CPU_WHEELS {
        eprintln!("libtorch: fetching {requirement}");
        let pins = wheels.join("pin.txt");
        fs::write(&pins, format!("{requirement} --hash=sha256:{sha256}\n"))?;
        let mut pip = pip();
        pip.args(["download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--require-hashes"]);
        for platform in platforms {
            pip.args(["--platform", platform]);
        }
        let done = pip.arg("-r").arg(&pins).arg("-d").arg(wheels).stdout(Stdio::null()).status()?;
        if !done.success() {
            bail!("pip could not fetch {requirement} (its own message stands above)");
        }
    }
    unpack(wheels, aside, "cpu")
}

/// What a program with a card needs. torch brings CUDA's libraries, but not the one that decodes JPEGs, of the same CUDA.
const CUDA_WHEELS: [&str; 2] = ["torch==2.11.0", "nvidia-nvjpeg==13.0.1.86"];

fn fetch_all(wheels: &Path, aside: &Path) -> Result<()> {
    let wanted = CUDA_WHEELS.join(" and ");
    eprintln!("libtorch: fetching {wanted} with CUDA's libraries, about 3 GB");
    let mut pip = pip();
    pip.args(["download", "--only-binary=:all:", "--python-version", "3.12"]);
    for platform in ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_25_x86_64", "manylinux_2_18_x86_64"]
    {
        pip.args(["--platform", platform]);
    }
    for platform in ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"] {
        pip.args(["--platform", platform]);
    }
    if !pip.args(CUDA_WHEELS).arg("-d").arg(wheels).stdout(Stdio::null()).status()?.success() {
        bail!("pip could not fetch {wanted} with CUDA's libraries (its own message stands above)");
    }
    unpack(wheels, aside, "cuda")
}

/// The ordinary pip client.
pub fn pip() -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--disable-pip-version-check"]);
    pip
}

fn unpack(wheels: &Path, aside: &Path, kind: &str) -> Result<()> {
    eprintln!("libtorch: unpacking");
    let script = include_str!("unpack.py");
    if !Command::new("python3").args(["-c", script]).args([wheels, aside]).arg(kind).status()?.success() {
        bail!("unpacking failed (python3's own message stands above)");
    }
    Ok(())
}

/// One line when python3 or pip is missing.
pub fn need_python() -> Result<()> {
    let there = pip().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        bail!("missing: python3 with pip, to fetch libtorch (Debian: apt-get install python3-pip)");
    }
    Ok(())
}

fn need_compiler() -> Result<()> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let there = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        bail!(
            "missing: a C++ compiler (`{compiler}` does not run), to build against libtorch (Debian: apt-get install g++)"
        );
    }
    Ok(())
}
