//! Where the project lies, and what is kept beside it.

use std::path::PathBuf;

/// The project's folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Where downloads are kept for all clones.
pub fn cache() -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("TROMMEL_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|xdg| xdg.join("trommel")))
        .or_else(|| var("HOME").map(|home| home.join(".cache/trommel")))
        .unwrap_or_else(|| std::env::temp_dir().join("trommel"))
}
