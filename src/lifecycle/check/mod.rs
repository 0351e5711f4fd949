//! check: all that `create` would refuse, and what will surprise, with nothing done. What is refused is what the code of
//! `create` itself refuses, going on behind the first; what only init would meet is looked up here.

mod image;
mod lookups;

use std::path::Path;

use anyhow::{Context, Error, Result};
use oci_spec::runtime::Spec;

use super::create::{self, CreateOptions};
use super::floor;
use super::host::Host;
use super::id::Id;
use super::process::user_namespace;
use crate::container::bundle::keys::UnknownKey;
use crate::container::bundle::{self, keys};
use crate::container::lint::{self, Author, Code, Finding, Surroundings};
use crate::container::validate;
use crate::error::{Faults, Field, one_line};
use crate::plan::{self, Gate};
use crate::sys::cgroup;

/// What is looked at, and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckOptions {
    pub author: Option<Author>,
    /// As for create.
    pub create: CreateOptions,
}

/// What there is to say of a bundle, what is refused first. An error: it could not be looked at.
pub fn check(host: &Host, options: &CheckOptions) -> Result<Vec<Finding>> {
    let CreateOptions { bundle: directory, config, .. } = &options.create;
    let unparsed = bundle::open(directory, config.as_deref())?;
    let unknown = keys::unknown(&unparsed.text);
    let mut found: Vec<Finding> = unknown.iter().map(key).collect();
    match unparsed.parse() {
        Ok(bundle) => parsed(host, options, bundle, &unknown, &mut found)?,
        // The types tell no more than the first.
        Err(error) => found.push(refused(&error)),
    }
    Ok(in_order(found))
}

/// The same of a process.json.
pub fn check_process(path: &Path, author: Option<Author>) -> Result<Vec<Finding>> {
    let text = bundle::read(path, usize::MAX).with_context(|| format!("--process {}", path.display()))?;
    let unknown = keys::unknown_of_process(&text);
    let mut found: Vec<Finding> = unknown.iter().map(key).collect();
    match bundle::parse_process(&text) {
        Ok((process, warnings)) => {
            let mut faults = Faults::all();
            validate::check_process(&process, &mut faults)?;
            let examined = plan::examine_process(&process);
            add(faults.into_found().into_iter().chain(examined.faults), &mut found);
            found.extend(lint::process(&process, &surroundings(author)));
            ignored(warnings.iter().chain(&examined.warnings), &unknown, &mut found);
        }
        Err(error) => found.push(refused(&error)),
    }
    Ok(in_order(found))
}

fn parsed(
    host: &Host,
    options: &CheckOptions,
    mut bundle: bundle::Bundle,
    unknown: &[UnknownKey],
    found: &mut Vec<Finding>,
) -> Result<()> {
    let mut faults = Faults::all();
    faults.keep(user_namespace::settle(&mut bundle.spec))?;
    let floor = faults.keep(floor::load(host))?.flatten();
    let tightened = create::validate(&mut bundle, floor.as_ref(), &mut faults)?;
    let id = Id::parse("check")?;
    let hook_defaults = host.hook_defaults();
    let request =
        create::request(host, &id, &options.create, &bundle.directory, Gate::Socket, &hook_defaults, floor.as_ref());
    let examined = plan::examine(&bundle.spec, &request);
    add(faults.into_found().into_iter().chain(examined.faults), found);
    let spec: &Spec = &bundle.spec;
    lookups::all(spec, &bundle.directory, options.author, found);
    found.extend(lint::config(spec, &surroundings(options.author)));
    ignored(bundle.warnings.iter().chain(&examined.warnings), unknown, found);
    found.extend(tightened.into_iter().map(|line| Finding::new(Code::Floor, "", line)));
    Ok(())
}

/// What is refused, each field once: what two rules say of it is the first one's.
fn add(faults: impl Iterator<Item = Error>, found: &mut Vec<Finding>) {
    for fault in faults.map(|error| refused(&error)) {
        let is_told = |told: &Finding| told.code == Code::Refused && told.field == fault.field;
        if fault.field.is_empty() || !found.iter().any(is_told) {
            found.push(fault);
        }
    }
}

fn refused(error: &Error) -> Finding {
    let words = one_line(error);
    let field = Field::of(error).map(|field| field.place().to_owned()).unwrap_or_default();
    // Where it is comes first, wherever it is in the chain.
    let why = match words.split_once(&format!("{field}: ")) {
        Some((_, why)) if !field.is_empty() => why.to_owned(),
        _ => words,
    };
    Finding::new(Code::Refused, field, why)
}

/// What create warns of, but for what is told already.
fn ignored<'a>(warnings: impl Iterator<Item = &'a String>, unknown: &[UnknownKey], found: &mut Vec<Finding>) {
    for warning in warnings {
        let (field, why) = warning.split_once(": ").unwrap_or(("", warning));
        let is_key = unknown.iter().any(|key| key.warning().as_ref() == Some(warning));
        if !is_key && !found.iter().any(|told| told.field == field && told.code != Code::Refused) {
            found.push(Finding::new(Code::Ignored, field, why));
        }
    }
}

fn key(key: &UnknownKey) -> Finding {
    match key.meant {
        Some(meant) => Finding::new(Code::KeyMisspelt, key.field(), format!("unknown (did you mean {meant}?)")),
        None => Finding::new(Code::KeyUnknown, key.field(), "no key of the specification"),
    }
}

fn in_order(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by_key(|finding| finding.severity);
    found
}

fn surroundings(author: Option<Author>) -> Surroundings {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
    let root = cgroup::filesystem_at(c"/sys/fs/cgroup");
    Surroundings {
        author,
        cgroup_v2: matches!(root, Ok(cgroup::CgroupFilesystem::Cgroup2)),
        processors: online.map(|list| list.trim().to_owned()),
    }
}
