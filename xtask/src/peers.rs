//! The Python programs that the tests compare with, in an environment of their own in the user's cache.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::places::cache;
use crate::setup::need_python;

/// Exact versions: golden files name them.
const PINS: &str = include_str!("peers.txt");

/// Taken without what they require, of which the tests use nothing that is not there already.
const ALONE: [&str; 1] = ["clip-benchmark==1.6.2"];

/// Older versions that one of these programs still needs: in a folder of their own, which its test puts first.
const OLDER: [&str; 1] = ["webdataset==0.2.86"];

/// These programs with their versions.
pub fn versions(names: &[&str]) -> Vec<String> {
    let of = |pin: &str| {
        pin.split_once("==").filter(|(name, _)| names.contains(name)).map(|(name, at)| format!("{name} {at}"))
    };
    PINS.lines().filter_map(of).collect()
}

/// Makes the environment once and returns its python.
pub fn ensure() -> Result<PathBuf> {
    let home = cache().join("peers");
    let python = home.join("bin/python");
    let stamp = home.join("pins.txt");
    let all = format!("{PINS}{}\n{}\n", ALONE.join("\n"), OLDER.join("\n"));
    if fs::read_to_string(&stamp).ok().as_ref() == Some(&all) {
        return Ok(python);
    }
    need_python()?;
    eprintln!("peers: filling {} (about 5 GB, a few minutes, once)", home.display());
    let started = Instant::now();
    let made = Command::new("python3").args(["-m", "venv"]).arg(&home).status().context("cannot run python3")?;
    if !made.success() {
        bail!("missing: python3's venv module (Debian: apt-get install python3-venv)");
    }
    let pins = home.join("wanted.txt");
    fs::write(&pins, PINS)?;
    let pins_path = pins.display().to_string();
    let older = home.join("older").display().to_string();
    let alone = [&["--no-deps"][..], &ALONE].concat();
    let older = [&["--no-deps", "--upgrade", "--target", &older][..], &OLDER].concat();
    for wanted in [&["-r", pins_path.as_str()][..], &alone, &older] {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "-q"]).args(wanted).stdout(Stdio::null());
        if !pip.status().context("cannot run pip")?.success() {
            bail!("pip could not fill the peers' environment (its own message stands above)");
        }
    }
    fs::write(&pins, all)?;
    fs::rename(&pins, &stamp)?;
    eprintln!("peers: ready after {:.0} s", started.elapsed().as_secs_f64());
    Ok(python)
}
