//! The program: parse, call, print one error, choose the exit status, all of it in [`ocirt::cli`].

#![no_main]

// musl's own takes a tenth of `run` and of `exec`: docs/decisions/0021-musl.md.
#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

ocirt_sys::program!(ocirt::cli::main);
