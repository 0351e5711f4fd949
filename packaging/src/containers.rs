//! Which commands are about a container that is there.

use clap::{Arg, Command};

/// Commands that make the container that they name. All others that name one take one that is there.
const MAKING: [&str; 4] = ["create", "run", "restore", "plan"];

/// The names of the commands with the id of a container that is there among their arguments.
pub fn commands_with_one(program: &Command) -> Vec<&str> {
    let names_one = |command: &&Command| {
        let mut arguments = command.get_positionals();
        arguments.any(is_id) && !MAKING.contains(&command.get_name())
    };
    program.get_subcommands().filter(names_one).map(Command::get_name).collect()
}

fn is_id(argument: &Arg) -> bool {
    argument.get_value_names().is_some_and(|names| names.iter().any(|name| name == "CONTAINER_ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_makes_its_container_or_finds_it() {
        let mut program = ocirt::cli::command();
        program.build();
        let expected = [
            "start",
            "state",
            "exec",
            "kill",
            "wait",
            "pause",
            "resume",
            "update",
            "events",
            "delete",
            "inspect",
            "mounts",
            "verify",
            "ps",
            "checkpoint",
        ];
        assert_eq!(commands_with_one(&program), expected);
    }
}
