//! Failures of stores and file systems by their cause: which are final, and which may pass. The only classification of
//! [`io::Error`] and [`object_store::Error`].

use std::{error::Error as StdError, io};

use crds::contract::FailureReason;

/// What a failure of a store or a file system means for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file or folder does not exist.
    NotFound,
    /// A part of the path is a file, or a folder where a file is expected.
    WrongKind,
    /// The process may not access it.
    Forbidden,
    /// No space is left.
    Full,
    /// The store cannot do this at all, for example hard links.
    Unsupported,
    /// The file exists, where it must not.
    Exists,
    /// The content cannot be parsed.
    Invalid,
    /// Anything else: an I/O error, a stale handle, a time-out, a busy server. A retry may succeed.
    Passing,
}

impl Fault {
    /// The fault of the first known error in the chain of causes.
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(store) = error.downcast_ref::<object_store::Error>() {
                match of_store(store) {
                    Some(fault) => return fault,
                    None => next = error.source(),
                }
                continue;
            }
            let Some(io) = error.downcast_ref::<io::Error>() else {
                next = error.source();
                continue;
            };
            match of_io(io) {
                Some(fault) => return fault,
                // The `source` of an io::Error skips the error that it wraps.
                None => next = io.get_ref().map(|inner| inner as &(dyn StdError + 'static)).or_else(|| io.source()),
            }
        }
        Self::Passing
    }

    /// Whether a retry cannot help.
    pub fn is_final(self) -> bool {
        self != Self::Passing && self != Self::Full
    }

    /// The reason if a source or a file of queries cannot be read.
    pub fn of_source(self) -> FailureReason {
        match self {
            Self::NotFound | Self::WrongKind | Self::Forbidden => FailureReason::SourceNotFound,
            Self::Invalid | Self::Unsupported | Self::Exists => FailureReason::InvalidFile,
            Self::Full | Self::Passing => FailureReason::SourceUnavailable,
        }
    }

    /// The reason if a file of a model cannot be read.
    pub fn of_model(self) -> FailureReason {
        match self {
            Self::Forbidden => FailureReason::ModelAccessDenied,
            Self::NotFound | Self::WrongKind | Self::Invalid | Self::Unsupported | Self::Exists => {
                FailureReason::InvalidModel
            }
            Self::Full | Self::Passing => FailureReason::ModelUnavailable,
        }
    }

    /// The reason if the output cannot be written or read.
    pub fn of_output(self) -> FailureReason {
        match self {
            Self::Full => FailureReason::StorageFull,
            Self::Forbidden | Self::WrongKind | Self::Unsupported | Self::Exists => FailureReason::OutputNotWritable,
            Self::NotFound | Self::Invalid | Self::Passing => FailureReason::StoreUnavailable,
        }
    }
}

fn of_store(error: &object_store::Error) -> Option<Fault> {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => Some(Fault::NotFound),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Some(Fault::Forbidden),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => Some(Fault::Unsupported),
        Error::InvalidPath { .. } => Some(Fault::Invalid),
        Error::AlreadyExists { .. } => Some(Fault::Exists),
        _ => None,
    }
}

fn of_io(error: &io::Error) -> Option<Fault> {
    use io::ErrorKind;
    match error.kind() {
        // A loop of links and a name that is too long have no file behind them.
        ErrorKind::NotFound | ErrorKind::InvalidFilename => Some(Fault::NotFound),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Some(Fault::NotFound),
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => Some(Fault::WrongKind),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(Fault::Forbidden),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Fault::Full),
        ErrorKind::Unsupported => Some(Fault::Unsupported),
        ErrorKind::AlreadyExists => Some(Fault::Exists),
        ErrorKind::InvalidData => Some(Fault::Invalid),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn of(errno: Errno) -> Fault {
        Fault::of(&io::Error::from(errno))
    }

    #[test]
    fn only_what_is_missing_forbidden_or_invalid_is_final() {
        let last = [
            Errno::NOENT,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::ACCESS,
            Errno::PERM,
            Errno::LOOP,
            Errno::NAMETOOLONG,
            Errno::ROFS,
        ];
        for errno in last {
            assert!(of(errno).is_final(), "{errno}");
            assert_ne!(of(errno).of_source(), FailureReason::SourceUnavailable, "{errno}");
        }
        let passing = [
            Errno::IO,
            Errno::STALE,
            Errno::TIMEDOUT,
            Errno::BUSY,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::NETUNREACH,
            Errno::CONNRESET,
            Errno::HOSTDOWN,
            Errno::REMOTEIO,
            Errno::NOTCONN,
            Errno::NODEV,
            Errno::AGAIN,
        ];
        for errno in passing {
            assert_eq!(of(errno), Fault::Passing, "{errno}");
        }
        assert_eq!(Fault::Passing.of_source(), FailureReason::SourceUnavailable);
        assert_eq!(Fault::Passing.of_model(), FailureReason::ModelUnavailable);
        assert_eq!(Fault::Passing.of_output(), FailureReason::StoreUnavailable);
    }

    #[test]
    fn the_cause_is_found_behind_the_errors_of_a_store() {
        let generic = |source: io::Error| object_store::Error::Generic { store: "test", source: source.into() };
        assert_eq!(Fault::of(&generic(io::Error::from(Errno::ACCESS))), Fault::Forbidden);
        assert_eq!(Fault::of(&generic(io::Error::other("503 Service Unavailable"))), Fault::Passing);
        let missing = object_store::Error::NotFound { path: "x".into(), source: "404".into() };
        assert_eq!(Fault::of(&io::Error::other(missing)), Fault::NotFound);
    }
}
