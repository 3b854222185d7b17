//! The process: the allocator, and the program of the library beside this. It knows nothing else.

use std::process::ExitCode;

/// Many small allocations from several threads are the program's normal state.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headgate::run()
}
