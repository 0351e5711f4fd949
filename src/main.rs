//! The program: parse, call, print one error, choose the exit status, all of it in [`ocirt::cli`].

#![no_main]

ocirt_sys::program!(ocirt::cli::main);
