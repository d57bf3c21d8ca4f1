//! Opens the library of the commands that run a model, and hands the process over to it.

use std::ffi::{CStr, CString, NulError, OsString, c_char, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use trommel_pipelines::error::PipelineError;

use crate::environment::{WAITING, waiting};
use crate::signals;

/// Why there is no library to run a model.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It is not known where the program lies.
    #[error(transparent)]
    NoProgram(#[from] io::Error),
    /// It does not lie there.
    #[error("{file} is not beside {}", program.display(), file = FILE)]
    NotBeside {
        /// The program's file.
        program: PathBuf,
    },
    /// Somebody else looked for it, and says in his own words what is to be done.
    #[error("{0}")]
    Missing(String),
    /// The system does not open it: its words say why, for example which library of libtorch it misses.
    #[error("{0}")]
    Closed(String),
    /// A word with a zero in it, which no command line has.
    #[error(transparent)]
    Zero(#[from] NulError),
}

impl From<LibraryError> for PipelineError {
    fn from(error: LibraryError) -> Self {
        Self::failed(error).within("the commands that run a model cannot start")
    }
}

/// File name of the library.
pub const FILE: &str = "libtrommel_torch.so";
const ENTRY: &CStr = c"trommel_torch_main";

/// Where it lies: beside the program; in a build tree Cargo keeps it in `deps`, and what lies beside the program there may be older.
///
/// # Errors
/// It is not there.
pub fn beside_program() -> Result<PathBuf, LibraryError> {
    let program = std::env::current_exe()?;
    let folder = program.parent().unwrap_or(Path::new("."));
    let mut places = ["deps", ".", "../lib"].iter().map(|place| folder.join(place).join(FILE));
    let found = places.find(|path| path.is_file());
    found.ok_or_else(|| LibraryError::NotBeside { program: program.clone() })
}

/// Runs a command line in the library that `find` finds, and gives the exit status.
///
/// # Errors
/// No library, or one that cannot be opened.
pub fn run(words: &[OsString], find: impl FnOnce() -> Result<PathBuf, LibraryError>) -> Result<u8, PipelineError> {
    signals::end_interrupted();
    Ok(handed_over(words, &find()?)?)
}

fn handed_over(words: &[OsString], library: &Path) -> Result<u8, LibraryError> {
    let name = CString::new(library.as_os_str().as_bytes())?;
    let library = idle_threads_asleep(|| {
        // SAFETY: `name` ends with a zero; what the library runs when it is opened is its and libtorch's initialisation.
        unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }
    });
    if library.is_null() {
        return Err(LibraryError::Closed(last_error()));
    }
    // SAFETY: the handle is open, and the name ends with a zero.
    let entry = unsafe { libc::dlsym(library, ENTRY.as_ptr()) };
    if entry.is_null() {
        return Err(LibraryError::Closed(last_error()));
    }
    // SAFETY: the library is built with this program, and its entry has this type (`src/torch/lib.rs`). It is never closed.
    let entry: extern "C" fn(*const c_char, *const *const c_char, usize) -> c_int =
        unsafe { std::mem::transmute(entry) };
    let version = CString::new(env!("CARGO_PKG_VERSION"))?;
    let words = words.iter().map(|word| CString::new(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let pointers: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
    Ok(u8::try_from(entry(version.as_ptr(), pointers.as_ptr(), pointers.len())).unwrap_or(1))
}

/// Opens a library whose OpenMP has its idle threads sleep, where the user has said nothing else. Left alone they turn for milliseconds
/// on a core that they have no work for, and when their work comes, whoever waited for that core has it (`docs/design/cores.md`).
/// The runtime reads the variable as it is loaded; what this process starts later is not told.
fn idle_threads_asleep<T>(open: impl FnOnce() -> T) -> T {
    if !waiting().is_empty() {
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
