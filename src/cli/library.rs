//! Opens the library of the commands that run a model, and hands the process over to it.

use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use trommel_pipelines::cores::{WAITING, waiting_as_set};
use trommel_pipelines::error::PipelineError;

/// File name of the library.
pub const FILE: &str = "libtrommel_torch.so";
const ENTRY: &CStr = c"trommel_torch_main";

/// Where it lies: beside the program; in a build tree Cargo keeps it in `deps`, and what lies beside the program there may be older.
///
/// # Errors
/// It is not there.
pub fn beside_program() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = program.parent().unwrap_or(Path::new("."));
    let mut places = ["deps", ".", "../lib"].iter().map(|place| folder.join(place).join(FILE));
    places.find(|path| path.is_file()).ok_or_else(|| format!("{FILE} is not beside {}", program.display()))
}

/// Runs a command line in the library that `find` finds, and gives the exit status.
///
/// # Errors
/// No library, or one that cannot be opened: the system's words say why, for example which library of libtorch it misses.
pub fn run(words: &[OsString], find: impl FnOnce() -> Result<PathBuf, String>) -> Result<u8, PipelineError> {
    let failed = |why: String| PipelineError::Failed(format!("the commands that run a model cannot start: {why}"));
    let path = find().map_err(failed)?;
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| failed(error.to_string()))?;
    let library = idle_threads_asleep(|| {
        // SAFETY: `name` ends with a zero; what the library runs when it is opened is its and libtorch's initialisation.
        unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }
    });
    if library.is_null() {
        return Err(failed(last_error()));
    }
    // SAFETY: the handle is open, and the name ends with a zero.
    let entry = unsafe { libc::dlsym(library, ENTRY.as_ptr()) };
    if entry.is_null() {
        return Err(failed(last_error()));
    }
    // SAFETY: the library is built with this program, and its entry has this type (`src/torch/lib.rs`). It is never closed.
    let entry: extern "C" fn(*const c_char, *const *const c_char, usize) -> c_int =
        unsafe { std::mem::transmute(entry) };
    let version = CString::new(env!("CARGO_PKG_VERSION")).map_err(|error| failed(error.to_string()))?;
    let words: Result<Vec<CString>, _> = words.iter().map(|word| CString::new(word.as_bytes())).collect();
    let words = words.map_err(|error| failed(error.to_string()))?;
    let pointers: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
    Ok(u8::try_from(entry(version.as_ptr(), pointers.as_ptr(), pointers.len())).unwrap_or(1))
}

/// Opens a library whose OpenMP has its idle threads sleep, where the user has said nothing else. Left alone they turn for milliseconds
/// on a core that they have no work for, and when their work comes, whoever waited for that core has it (`docs/design/cores.md`).
/// The runtime reads the variable as it is loaded; what this process starts later is not told.
fn idle_threads_asleep<T>(open: impl FnOnce() -> T) -> T {
    if waiting_as_set().next().is_some() {
        return open();
    }
    let policy = WAITING[0];
    // SAFETY: nothing runs beside this thread before a command begins.
    unsafe { std::env::set_var(policy, "passive") };
    let opened = open();
    // SAFETY: as above; libraries start no threads when they are opened.
    unsafe { std::env::remove_var(policy) };
    opened
}

fn last_error() -> String {
    // SAFETY: `dlerror` gives null or a text that ends with a zero and stays until this thread's next call.
    let text = unsafe { libc::dlerror() };
    // SAFETY: as above.
    if text.is_null() {
        "no reason given".into()
    } else {
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}
