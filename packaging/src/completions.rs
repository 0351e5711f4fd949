//! Completions for bash, zsh and fish: what clap makes of the command line, and the ids of the containers below `--root`,
//! which the shell asks `ocirt list` for.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use crate::containers::commands_with_one;

pub fn write(command: &mut Command, directory: &Path) -> io::Result<()> {
    let names: Vec<String> = commands_with_one(command).into_iter().map(str::to_owned).collect();
    for (shell, name, with_ids) in [
        (Shell::Bash, "ocirt", bash as fn(String, &[String]) -> io::Result<String>),
        (Shell::Zsh, "_ocirt", zsh),
        (Shell::Fish, "ocirt.fish", fish),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, command, "ocirt", &mut script);
        let script = String::from_utf8(script).map_err(io::Error::other)?;
        fs::write(directory.join(name), with_ids(script, &names)?)?;
    }
    Ok(())
}

const BASH: &str = include_str!("containers.bash");
const ZSH: &str = include_str!("containers.zsh");
const FISH: &str = include_str!("containers.fish");

/// Of each command's part, what is offered where an argument is due.
fn bash(script: String, names: &[String]) -> io::Result<String> {
    const OPTIONS: &str = r#"if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then"#;
    const ARGUMENT: &str = "                *)\n                    COMPREPLY=()\n                    ;;\n            esac\n            \
                            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )\n";
    let mut script = script;
    for name in names {
        let head = format!("        ocirt__subcmd__{name})\n            opts=");
        let at = script.find(&head).ok_or_else(|| unknown("bash", &head))?;
        let end = script[at..].find("            ;;\n        ocirt__").map_or(script.len(), |end| at + end);
        let part = script[at..end].to_owned();
        let part = once("bash", &part, OPTIONS, "if [[ ${cur} == -* ]] ; then")?;
        let part = once("bash", &part, ARGUMENT, "            esac\n            _ocirt_containers \"$1\"\n")?;
        script.replace_range(at..end, &part);
    }
    Ok(format!("{BASH}\n{script}"))
}

/// The program and its `--root` are gone from the words where a command's arguments are completed, so the line is kept.
fn zsh(script: String, names: &[String]) -> io::Result<String> {
    const IDS: &str = "':id -- Name of the container:_default'";
    const BEGIN: &str = "    typeset -A opt_args\n";
    const ARGUMENTS: &str = "    _arguments \"${_arguments_options[@]}\" : \\\n";
    if script.matches(IDS).count() != names.len() {
        return Err(unknown("zsh", IDS));
    }
    let script = script.replace(IDS, "':id -- Name of the container:_ocirt_containers'");
    let script = once("zsh", &script, BEGIN, &format!("{BEGIN}    local -a ocirt_words=($words)\n"))?;
    // Or `delete -r` (--regex) is taken for `-r` (--root) behind the command, which there is none.
    let only_before = ARGUMENTS.replace(" : ", " -A '-*' : ");
    let script = once("zsh", &script, ARGUMENTS, &only_before)?;
    once("zsh", &script, "\nif [ \"$funcstack[1]\"", &format!("\n{ZSH}\nif [ \"$funcstack[1]\""))
}

fn fish(script: String, names: &[String]) -> io::Result<String> {
    let using = |name: &String| {
        format!("complete -c ocirt -n \"__fish_ocirt_using_subcommand {name}\" -f -a \"(__fish_ocirt_containers)\"\n")
    };
    Ok(format!("{script}\n{FISH}{}", names.iter().map(using).collect::<String>()))
}

fn once(shell: &str, text: &str, old: &str, new: &str) -> io::Result<String> {
    if text.matches(old).count() == 1 { Ok(text.replacen(old, new, 1)) } else { Err(unknown(shell, old)) }
}

/// Another release of clap_complete writes other scripts.
fn unknown(shell: &str, part: &str) -> io::Error {
    io::Error::other(format!("completions for {shell}: not once in what clap makes: {part}"))
}
