//! The manual pages and the completions of shells, from the command line as it is.

use std::fs;
use std::io;
use std::path::Path;

mod completions;
mod containers;
mod manual;
mod pages;

/// Makes `man8/ocirt*.8` and `completions/{ocirt,_ocirt,ocirt.fish}` in `directory`.
pub fn write(directory: &Path) -> io::Result<()> {
    let mut command = ocirt::cli::command();
    command.build();
    let (manual, completions) = (directory.join("man8"), directory.join("completions"));
    fs::create_dir_all(&manual)?;
    fs::create_dir_all(&completions)?;
    manual::write(&command, &manual)?;
    completions::write(&mut command, &completions)
}
