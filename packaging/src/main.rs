//! Writes what a package has besides the binary, from the command line as it is: `packaging DIRECTORY` makes
//! `man8/ocirt*.8` and `completions/{ocirt,_ocirt,ocirt.fish}` there.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: packaging DIRECTORY");
        return ExitCode::from(2);
    };
    match ocirt_packaging::write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("packaging: {}: {error}", Path::new(&directory).display());
            ExitCode::FAILURE
        }
    }
}
