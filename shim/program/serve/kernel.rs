//! What is asked of the kernel on the spot.

use containerd_shim_ocirt::api::known::Any;
use containerd_shim_ocirt::api::options::ProcessDetails;
use containerd_shim_ocirt::api::service::Response;
use containerd_shim_ocirt::api::task::{PidsResponse, ProcessInfo, StatsResponse};
use containerd_shim_ocirt::task::{ContainerKey, Question};
use containerd_shim_ocirt::wire::status::{Code, Status};

use super::cgroup::Cgroup;
use super::state::Loop;

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
            Question::Pids { container, init, execs } => Ok(Response::Pids(self.pids(*container, *init, execs))),
            Question::CloseStdin(process) => {
                self.close_stdin(*process);
                Ok(Response::Empty)
            }
            Question::Resize { process, width, height } => {
                self.resize(*process, *width, *height);
                Ok(Response::Empty)
            }
            Question::Stats(container) => match self.cgroups.get(container) {
                Some(cgroup) => Ok(Response::Stats(StatsResponse { stats: Some(cgroup.metrics()) })),
                None => Err(Status::new(Code::NotFound, "the container has no cgroup")),
            },
        }
    }

    fn pids(&self, container: ContainerKey, init: u32, execs: &[(u32, String)]) -> PidsResponse {
        let mut pids = self.cgroups.get(&container).map(Cgroup::pids).unwrap_or_default();
        if pids.is_empty() && init != 0 {
            pids.push(init);
        }
        let info = |pid: u32| {
            let (_, exec_id) = execs.iter().find(|(own, _)| *own == pid)?;
            Some(Any::pack(&ProcessDetails { exec_id: exec_id.clone() }))
        };
        PidsResponse { processes: pids.into_iter().map(|pid| ProcessInfo { pid, info: info(pid) }).collect() }
    }
}
