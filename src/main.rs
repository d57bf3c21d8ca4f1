//! The `trommel` program. What runs a model lies in a library beside it, which brings libtorch and is opened when a command needs it.

use trommel_cli::library;

fn main() {
    let status = trommel_cli::run(std::env::args_os().collect(), library::beside_program);
    // Not by way of `exit`: a batch of an interrupted run may still be in libtorch, whose static objects `exit` destroys.
    signal_hook::low_level::exit(i32::from(status));
}
