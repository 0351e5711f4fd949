//! README.md, "Ask it": what is shown there is what the commands print.

use std::path::Path;

use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::{host, tests};

tests![the_transcripts_of_the_readme_are_what_is_printed];

const README: &str = include_str!("../../../README.md");

/// A command, and the lines behind it.
type Transcript<'t> = (&'t str, Vec<&'t str>);

/// Those of the section, in their order.
fn transcripts() -> Vec<Transcript<'static>> {
    let section = README.split("\n## Ask it\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    let mut found: Vec<Transcript> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => panic!("{line}: no command before it"),
        }
    }
    found
}

/// A line without what differs from run to run: numbers, bars, and how wide they are.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.chars() {
        let c = if c.is_ascii_digit() || matches!(c, '.' | '█' | '·') { '#' } else { c };
        if !(shape.ends_with(c) && matches!(c, '#' | ' ')) {
            shape.push(c);
        }
    }
    shape.trim().to_owned()
}

fn the_transcripts_of_the_readme_are_what_is_printed() {
    need_ocirt();
    need_root();
    let busybox = Path::new("/bin/busybox");
    need(Need::Busybox, busybox.exists());
    let place = host::place();
    let programs = place.join("bundle/rootfs/bin");
    std::fs::create_dir_all(&programs).expect("rootfs");
    std::fs::copy(busybox, programs.join("sh")).expect("sh");
    std::os::unix::fs::symlink("sh", programs.join("sleep")).expect("sleep");
    call(["spec", "--bundle", place.join("bundle").to_str().expect("UTF-8")]).ok();
    let config = place.join("bundle/config.json");
    let text = std::fs::read_to_string(&config).expect("config.json");
    let text = text.replace("\"terminal\": true", "\"terminal\": false").replace("\"sh\"", "\"sleep\", \"600\"");
    std::fs::write(&config, text).expect("config.json");
    let transcripts = transcripts();
    assert!(transcripts.len() >= 7, "{transcripts:?}");
    for (command, expected) in transcripts {
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words.first(), Some(&"ocirt"), "{command}");
        let output = Call::new(words.into_iter().skip(1)).cwd(place).run();
        // Standard output, and errors of one line.
        let printed: Vec<&str> = output.stdout.lines().chain(output.stderr.lines()).collect();
        let shapes: Vec<String> = printed.iter().map(|line| shape(line)).collect();
        for line in expected.iter().filter(|line| **line != "…") {
            assert!(shapes.contains(&shape(line)), "{command}: {line:?} is not in\n{}", printed.join("\n"));
        }
        if !expected.contains(&"…") {
            assert_eq!(shapes.len(), expected.len(), "{command} prints\n{}", printed.join("\n"));
        }
    }
    call(["delete", "--force", "web1"]).ok();
}
