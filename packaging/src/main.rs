//! Writes what a package has besides the binary, from the command line as it is: `packaging DIRECTORY` makes
//! `man8/ocirt*.8` and `completions/{ocirt,_ocirt,ocirt.fish}` there.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap_complete::Shell;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: packaging DIRECTORY");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("packaging: {}: {error}", Path::new(&directory).display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let mut command = ocirt::cli::command();
    command.build();
    let (manual, completions) = (directory.join("man8"), directory.join("completions"));
    fs::create_dir_all(&manual)?;
    fs::create_dir_all(&completions)?;
    page(&command, &manual)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        page(subcommand, &manual)?;
    }
    for (shell, name) in [(Shell::Bash, "ocirt"), (Shell::Zsh, "_ocirt"), (Shell::Fish, "ocirt.fish")] {
        let mut file = fs::File::create(completions.join(name))?;
        clap_complete::generate(shell, &mut command, "ocirt", &mut file);
    }
    Ok(())
}

/// One manual page; section 8 is that of commands for the administrator, man-pages(7).
fn page(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut file = fs::File::create(directory.join(format!("{name}.8")))?;
    clap_mangen::Man::new(command.clone()).section("8").manual("ocirt").source("ocirt").render(&mut file)
}
