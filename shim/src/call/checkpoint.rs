//! The command lines of `checkpoint` and `restore`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use prost::{Message, Name};

use super::options::Settings;
use super::{Refused, refuse};
use crate::api::known::Any;
use crate::api::options::CheckpointOptions;
use crate::api::task::{CheckpointTaskRequest, CreateTaskRequest};

/// What the runtime is called with, less the id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub arguments: Vec<OsString>,
    /// Where CRIU's log is.
    pub work: PathBuf,
    /// The directory is the shim's, and goes with the command.
    pub is_scratch: bool,
}

/// Reads a request. The directory of images is that of the request, else of its options, else of the container's.
pub fn of_checkpoint(
    request: &CheckpointTaskRequest,
    settings: &Settings,
    bundle: &Path,
) -> Result<Checkpoint, Refused> {
    let options = read(request.options.as_ref())?;
    let images = first([&request.path, &options.image_path]).or_else(|| settings.criu_image_path.clone());
    let Some(images) = images else { refuse!("checkpoint: no directory for the images") };
    let given = first([&options.work_path]).or_else(|| settings.criu_work_path.clone());
    let is_scratch = given.is_none();
    let work = given.unwrap_or_else(|| bundle.join("criu-work"));
    let mut arguments: Vec<OsString> = ["checkpoint", "--image-path"].map(Into::into).to_vec();
    arguments.extend([images.into(), "--work-path".into(), work.clone().into()]);
    let switches = [
        (!options.exit, "--leave-running"),
        (options.open_tcp, "--tcp-established"),
        (options.external_unix_sockets, "--ext-unix-sk"),
        (options.terminal, "--shell-job"),
        (options.file_locks, "--file-locks"),
    ];
    arguments.extend(switches.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.into()));
    for namespace in options.empty_namespaces {
        arguments.extend(["--empty-ns".into(), namespace.into()]);
    }
    let values = [("--manage-cgroups-mode", options.cgroups_mode), ("--parent-path", options.parent_path)];
    for (flag, value) in values.into_iter().filter(|(_, value)| !value.is_empty()) {
        arguments.extend([flag.into(), value.into()]);
    }
    Ok(Checkpoint { arguments, work, is_scratch })
}

/// The same of a container that begins as a checkpoint; `work` is where CRIU works unless its options say so. Images
/// that have parents name them themselves.
pub fn of_restore(request: &CreateTaskRequest, settings: &Settings, work: PathBuf) -> Vec<OsString> {
    let work = settings.criu_work_path.clone().unwrap_or(work);
    let mut arguments: Vec<OsString> = ["restore", "--image-path"].map(Into::into).to_vec();
    arguments.extend([OsString::from(&request.checkpoint), "--work-path".into(), work.into()]);
    arguments.extend(["--detach".into(), "--no-subreaper".into(), "--bundle".into(), OsString::from(&request.bundle)]);
    if settings.no_pivot_root {
        arguments.push("--no-pivot".into());
    }
    arguments
}

fn read(any: Option<&Any>) -> Result<CheckpointOptions, Refused> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty() || !any.value.is_empty()) else {
        return Ok(CheckpointOptions::default());
    };
    let name = any.type_name();
    if name != CheckpointOptions::full_name() {
        refuse!("checkpoint: options of type {name:?}: not runc's");
    }
    match CheckpointOptions::decode(any.value.as_slice()) {
        Ok(options) => Ok(options),
        Err(error) => refuse!("checkpoint: options of type {name}: {error}"),
    }
}

fn first<const N: usize>(paths: [&String; N]) -> Option<PathBuf> {
    paths.into_iter().find(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::config::Config;
    use crate::call::options::Wanted;

    fn settings() -> Settings {
        Wanted::default().settle("n", &Config::default())
    }

    fn request(path: &str, options: &CheckpointOptions) -> CheckpointTaskRequest {
        CheckpointTaskRequest { path: path.to_owned(), options: Some(Any::pack(options)), ..Default::default() }
    }

    fn line(request: &CheckpointTaskRequest, settings: &Settings) -> String {
        let checkpoint = of_checkpoint(request, settings, Path::new("/b")).unwrap();
        checkpoint.arguments.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn without_options_the_container_runs_on() {
        let request = CheckpointTaskRequest { path: "/i".to_owned(), ..Default::default() };
        let expected = "checkpoint --image-path /i --work-path /b/criu-work --leave-running";
        assert_eq!(line(&request, &settings()), expected);
        assert!(of_checkpoint(&request, &settings(), Path::new("/b")).unwrap().is_scratch);
    }

    #[test]
    fn each_option_is_a_flag() {
        let options = CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".to_owned(), "x".to_owned()],
            cgroups_mode: "soft".to_owned(),
            image_path: "/other".to_owned(),
            work_path: "/w".to_owned(),
            parent_path: "../p".to_owned(),
        };
        let expected = "--work-path /w --tcp-established --ext-unix-sk --shell-job --file-locks --empty-ns network \
                        --empty-ns x --manage-cgroups-mode soft --parent-path ../p";
        assert_eq!(line(&request("/i", &options), &settings()), format!("checkpoint --image-path /i {expected}"));
        assert_eq!(line(&request("", &options), &settings()), format!("checkpoint --image-path /other {expected}"));
        assert!(!of_checkpoint(&request("", &options), &settings(), Path::new("/b")).unwrap().is_scratch);
    }

    #[test]
    fn the_containers_own_directories_are_the_last() {
        let own = Settings { criu_image_path: Some("/ci".into()), criu_work_path: Some("/cw".into()), ..settings() };
        let request = request("", &CheckpointOptions::default());
        assert_eq!(line(&request, &own), "checkpoint --image-path /ci --work-path /cw --leave-running");
        let error = of_checkpoint(&request, &settings(), Path::new("/b")).unwrap_err();
        assert_eq!(error.0, "checkpoint: no directory for the images");
    }

    #[test]
    fn other_options_are_refused() {
        let mut request = request("/i", &CheckpointOptions::default());
        request.options = Some(Any { type_url: "x.Y".to_owned(), value: Vec::new() });
        let error = of_checkpoint(&request, &settings(), Path::new("/b")).unwrap_err();
        assert_eq!(error.0, "checkpoint: options of type \"x.Y\": not runc's");
    }

    #[test]
    fn a_restore_is_detached() {
        let (checkpoint, bundle) = ("/i".to_owned(), "/b".to_owned());
        let request = CreateTaskRequest { checkpoint, bundle, ..Default::default() };
        let own = Settings { no_pivot_root: true, ..settings() };
        let line = of_restore(&request, &own, "/b/work".into()).join(" ".as_ref()).into_string().unwrap();
        assert_eq!(line, "restore --image-path /i --work-path /b/work --detach --no-subreaper --bundle /b --no-pivot");
    }
}
