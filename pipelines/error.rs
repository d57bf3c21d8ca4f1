//! How a pipeline can end other than well: of which kind, where, and because of what. The kind alone decides the exit status.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::Path;

use trommel_core::causes::{Cause, Causes};
use trommel_core::stop::{Failure, Stop};

/// Of which kind an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Wrong usage or input; nothing was begun.
    Usage,
    /// Broken half-way; what is committed stays.
    Failed,
    /// Another process of the run is not there.
    Lost,
    /// Bytes that could not be had.
    Unfinished,
    /// Stopped by a signal.
    Interrupted,
}

impl ErrorKind {
    /// The program's exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Failed => 1,
            Self::Lost | Self::Unfinished | Self::Interrupted => 3,
        }
    }

    /// What can be done about it, where that is the same for all of the kind.
    const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Usage | Self::Failed => None,
            Self::Lost | Self::Interrupted => Some("the same command resumes"),
            Self::Unfinished => Some("the same command tries again"),
        }
    }
}

/// What went wrong. Displayed, it says its own words and not those of its [`source`](Error::source); [`line`](Self::line) says all.
#[derive(Debug)]
pub struct PipelineError {
    kind: ErrorKind,
    /// Where, or in doing what; `None`: the cause says so itself.
    place: Option<String>,
    /// What can be done about it.
    remedy: Option<String>,
    /// A pipeline's own words, or an error of an operator, of the system or of a format.
    cause: Cause,
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => f.write_str(place),
            None => fmt::Display::fmt(&self.cause, f),
        }
    }
}

impl Error for PipelineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.place {
            Some(_) => Some(&*self.cause),
            None => self.cause.source(),
        }
    }
}

impl PipelineError {
    fn of(kind: ErrorKind, cause: impl Into<Cause>) -> Self {
        Self { kind, place: None, remedy: None, cause: cause.into() }
    }

    /// A usage error, in words or because of another one.
    pub fn usage(cause: impl Into<Cause>) -> Self {
        Self::of(ErrorKind::Usage, cause)
    }

    /// A failure, in words or because of another error.
    pub fn failed(cause: impl Into<Cause>) -> Self {
        Self::of(ErrorKind::Failed, cause)
    }

    /// A process that is not there, in words or because of another error.
    pub fn lost(cause: impl Into<Cause>) -> Self {
        Self::of(ErrorKind::Lost, cause)
    }

    /// Bytes that could not be had, in words or because of another error.
    pub fn unfinished(cause: impl Into<Cause>) -> Self {
        Self::of(ErrorKind::Unfinished, cause)
    }

    /// A stop by a signal.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::of(ErrorKind::Interrupted, "interrupted")
    }

    /// Goes on while nobody has asked for an end.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] where somebody has, be it a soft one.
    pub fn if_ending(stop: &Stop) -> Result<(), Self> {
        if stop.is_ending() { Err(Self::interrupted()) } else { Ok(()) }
    }

    /// Goes on while the work of a part is whole.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] where a stop ended it early; else why the first shard of `failed` could not be read.
    pub fn if_not_whole(interrupted: bool, failed: &BTreeMap<u64, String>) -> Result<(), Self> {
        match failed.first_key_value() {
            _ if interrupted => Err(Self::interrupted()),
            Some((_, why)) => Err(Self::unfinished(why.clone())),
            None => Ok(()),
        }
    }

    /// A failure at a file or folder.
    pub fn at(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::failed(error).within(&path)
    }

    /// The same, of the same kind, with the place before it: where it happened, or what was being done. A stop has no place.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        let (kind, place) = (self.kind, Some(place.to_string()));
        match self.place {
            _ if kind == ErrorKind::Interrupted => self,
            None => Self { place, ..self },
            Some(_) => Self { kind, place, remedy: self.remedy.take(), cause: self.into() },
        }
    }

    /// The same with what can be done about it, which is said last.
    #[must_use]
    pub fn with_remedy(self, remedy: impl fmt::Display) -> Self {
        Self { remedy: Some(remedy.to_string()), ..self }
    }

    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The program's exit status.
    #[must_use]
    pub const fn status(&self) -> u8 {
        self.kind.status()
    }

    /// All of it in one line for people: the place, what happened, each cause once, what can be done.
    #[must_use]
    pub fn line(&self) -> String {
        let remedies = self.remedy.as_deref().into_iter().chain(self.kind.remedy());
        remedies.fold(Causes(self).to_string(), |line, remedy| format!("{line}; {remedy}"))
    }
}

impl From<Failure> for PipelineError {
    fn from(failure: Failure) -> Self {
        Self::of(if failure.is_input { ErrorKind::Usage } else { ErrorKind::Failed }, failure)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// All causes of an error, itself included.
    fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
        let (mut said, mut next) = (Vec::new(), Some(error));
        while let Some(error) = next {
            said.push(error.to_string());
            next = error.source();
        }
        said
    }

    #[test]
    fn the_kind_alone_decides_the_status_whatever_was_put_around_it() {
        for (kind, status) in [
            (ErrorKind::Usage, 2),
            (ErrorKind::Failed, 1),
            (ErrorKind::Lost, 3),
            (ErrorKind::Unfinished, 3),
            (ErrorKind::Interrupted, 3),
        ] {
            let error = PipelineError::of(kind, io::Error::other("why"));
            assert_eq!((error.kind(), error.status()), (kind, status));
            let error = error.within("there").with_remedy("do this").within("elsewhere");
            assert_eq!((error.kind(), error.status()), (kind, status));
        }
        for (made, kind) in [
            (PipelineError::usage("why"), ErrorKind::Usage),
            (PipelineError::failed("why"), ErrorKind::Failed),
            (PipelineError::lost("why"), ErrorKind::Lost),
            (PipelineError::unfinished("why"), ErrorKind::Unfinished),
        ] {
            assert_eq!((made.kind(), chain(&made)), (kind, vec!["why".to_owned()]));
            let around = made.within("there");
            assert_eq!((around.kind(), chain(&around)), (kind, vec!["there".to_owned(), "why".to_owned()]));
        }
        assert_eq!(PipelineError::interrupted().within("there").line(), "interrupted; the same command resumes");
    }

    #[test]
    fn each_cause_is_named_and_said_once() {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "gone");
        let plain = PipelineError::usage(gone());
        assert_eq!((chain(&plain), plain.line()), (vec!["gone".to_owned()], "gone".to_owned()));
        let at = PipelineError::at(Path::new("run/plan.json"))(gone());
        assert_eq!(
            (chain(&at), at.line()),
            (vec!["run/plan.json".into(), "gone".into()], "run/plan.json: gone".into())
        );
        let found = at.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        assert_eq!(found, Some(io::ErrorKind::NotFound));
        let twice = at.with_remedy("mend it").within("benchmark b");
        assert_eq!(chain(&twice), ["benchmark b", "run/plan.json", "gone"]);
        assert_eq!(twice.line(), "benchmark b: run/plan.json: gone; mend it");
        let unread = PipelineError::unfinished("a.tar").within("pool");
        assert_eq!(unread.line(), "pool: a.tar; the same command tries again");
    }

    #[test]
    fn a_failure_of_a_run_keeps_whose_fault_it_is_and_its_cause() {
        let inner = PipelineError::at(Path::new("part"))(io::Error::other("full"));
        for (is_input, kind) in [(true, ErrorKind::Usage), (false, ErrorKind::Failed)] {
            let error = std::sync::Arc::new(PipelineError::at(Path::new("part"))(io::Error::other("full")));
            let error = PipelineError::from(Failure { error, is_input });
            assert_eq!((error.kind(), chain(&error), error.line()), (kind, chain(&inner), "part: full".to_owned()));
        }
    }
}
