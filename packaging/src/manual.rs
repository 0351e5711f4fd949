//! Manual pages: what clap makes of a command, and of man-pages(7) the sections EXIT STATUS, FILES, EXAMPLES and SEE ALSO.
//! Section 8 is that of commands for the administrator.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use roff::{Roff, bold, italic, roman};

use crate::pages::{self, Example, Page};

pub fn write(program: &Command, directory: &Path) -> io::Result<()> {
    page(program, &pages::PROGRAM, directory)?;
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        let page_of = pages::of(command.get_name());
        let known = page_of.ok_or_else(|| io::Error::other(format!("no page for {}", command.get_name())))?;
        page(command, known, directory)?;
    }
    Ok(())
}

fn page(command: &Command, page: &Page, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut file = fs::File::create(directory.join(format!("{name}.8")))?;
    clap_mangen::Man::new(command.clone()).section("8").manual("ocirt").source("ocirt").render(&mut file)?;
    let mut roff = Roff::new();
    definitions(&mut roff, "EXIT STATUS", page.statuses);
    definitions(&mut roff, "FILES", page.files);
    examples(&mut roff, page.examples);
    see_also(&mut roff, page.see_also);
    roff.to_writer(&mut file)
}

fn definitions(roff: &mut Roff, heading: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (name, text) in entries {
        roff.control("TP", []);
        roff.text([italic(*name)]);
        roff.text([roman(*text)]);
    }
}

fn examples(roff: &mut Roff, examples: &[Example]) {
    roff.control("SH", ["EXAMPLES"]);
    for example in examples {
        roff.control("PP", []);
        roff.text([roman(example.what)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for line in example.lines {
            roff.text([roman(*line)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

fn see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        let end = if index + 1 == pages.len() { "" } else { ", " };
        line.push(bold(name));
        line.push(roman(format!("({section}{end}")));
    }
    roff.text(line);
}
