//! The class of an error by the types in its chain, for programs.

use super::checkpoint::criu;
use super::id::InvalidId;
use super::refusal::Refusal;
use crate::log::facts::Code;

/// The class of an error that has one by its type, whatever its words.
pub fn code(error: &anyhow::Error) -> Option<Code> {
    let refusal = || error.downcast_ref().copied().map(Refusal::code);
    let is_missing = || error.is::<criu::CriuMissing>().then_some(Code::ExecutableNotFound);
    error.is::<InvalidId>().then_some(Code::InvalidId).or_else(refusal).or_else(is_missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::id::Id;
    use crate::lifecycle::status::Status;

    #[test]
    fn the_class_of_a_refusal_is_its_own_wherever_it_is_in_the_chain() {
        let of = |refusal: Refusal| code(&anyhow::Error::from(refusal).context("web1"));
        assert_eq!(of(Refusal::Exists), Some(Code::Exists));
        assert_eq!(of(Refusal::ExecPaused), Some(Code::Paused));
        for refusal in [Refusal::ExecStopped, Refusal::NotPaused, Refusal::CheckpointNotRunning(Status::Stopped)] {
            assert_eq!(of(refusal), Some(Code::WrongStatus));
        }
        let gone = anyhow::anyhow!("ENOMEM").context(Refusal::GoneOrNoMemory).context("exec web1");
        assert_eq!(code(&gone), Some(Code::NotRunning));
        assert_eq!(code(&Id::parse("a/b").unwrap_err()), Some(Code::InvalidId));
        assert_eq!(code(&anyhow::anyhow!("container does not exist").context("invalid id format")), None);
    }
}
