use super::*;

/// The words of a line as a shell takes them, as far as the examples go: up to a pipe, a comment or a redirection.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').take_while(|word| !["|", "#", "&&"].contains(word)).filter(|word| !word.is_empty()).collect()
}

#[test]
fn each_example_is_a_command_line_that_the_program_takes() {
    let mut count = 0;
    for page in COMMANDS.iter().chain([&PROGRAM]) {
        assert!(!page.examples.is_empty(), "{}", page.command);
        let mut is_about_it = page.command.is_empty();
        for line in page.examples.iter().flat_map(|example| example.lines) {
            // The last command of a pipe, where ocirt is not the first.
            let Some(at) = line.find("ocirt ") else { continue };
            let arguments = line[at..].split(" | ").flat_map(|command| command.split(" > ")).next().unwrap_or_default();
            let words = words(arguments);
            if let Err(error) = ocirt::cli::command().try_get_matches_from(&words) {
                panic!("{line}: {error}");
            }
            is_about_it |= words.contains(&page.command);
            count += 1;
        }
        assert!(is_about_it, "no example has {}", page.command);
    }
    assert!(count > 30, "{count} examples");
}

#[test]
fn each_command_has_its_page_once() {
    let mut names: Vec<&str> = COMMANDS.iter().map(|page| page.command).collect();
    let program = ocirt::cli::command();
    let mut commands: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
    names.sort_unstable();
    commands.sort_unstable();
    assert_eq!(names, commands);
}
