//! What is asked of the kernel on the spot.

use std::fs;
use std::path::{Path, PathBuf};

use containerd_shim_ocirt::api::known::Any;
use containerd_shim_ocirt::api::options::ProcessDetails;
use containerd_shim_ocirt::api::service::Response;
use containerd_shim_ocirt::api::task::{PidsResponse, ProcessInfo};
use containerd_shim_ocirt::task::{ContainerKey, ProcessKey, Question};
use containerd_shim_ocirt::wire::status::{Code, Status};

use super::Loop;

impl Loop {
    pub fn look(&mut self, question: &Question) -> Result<Response, Status> {
        match question {
            Question::Signal { process, signal } => match self.signal(*process, *signal) {
                Ok(()) => Ok(Response::Empty),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                    Err(Status::new(Code::NotFound, "process already finished"))
                }
                Err(error) => Err(Status::new(Code::InvalidArgument, format!("signal {signal}: {error}"))),
            },
            Question::Pids { container, execs } => Ok(Response::Pids(self.pids(*container, execs))),
            Question::CloseStdin(process) => {
                self.close_stdin(*process);
                Ok(Response::Empty)
            }
            // What is no terminal has no size.
            Question::Resize { .. } => Ok(Response::Empty),
            Question::Stats(_) => Err(Status::new(Code::Unimplemented, "stats: not supported by this shim yet")),
        }
    }

    fn pids(&self, container: ContainerKey, execs: &[(u32, String)]) -> PidsResponse {
        let init = self.processes.get(&ProcessKey::init(container)).filter(|process| process.is_alive());
        let mut pids = Vec::new();
        if let Some(cgroup) = init.and_then(|init| cgroup_of(init.pid)) {
            collect(&cgroup, &mut pids);
        }
        let info = |pid: u32| {
            let (_, exec_id) = execs.iter().find(|(own, _)| *own == pid)?;
            Some(Any::pack(&ProcessDetails { exec_id: exec_id.clone() }))
        };
        PidsResponse { processes: pids.into_iter().map(|pid| ProcessInfo { pid, info: info(pid) }).collect() }
    }
}

/// The directory of a process's cgroup: that of v2, else of the first hierarchy of v1 where it is not in the root.
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mut found: Vec<PathBuf> = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if path != "/" {
            let mount = Path::new("/sys/fs/cgroup").join(controllers.trim_start_matches("name="));
            found.push(mount.join(path.trim_start_matches('/')));
        }
    }
    found.into_iter().find(|directory| directory.join("cgroup.procs").exists())
}

fn collect(cgroup: &Path, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}
