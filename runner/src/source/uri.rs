//! The URIs of the files of a source, for messages.

use crds::contract::Place;

use crate::process::message::printable;

/// The URIs of the files of a source.
#[derive(Clone, Debug)]
pub(super) struct Uris {
    /// The source.
    pub(super) place: Place,
    /// Whether it is a single file.
    pub(super) single: bool,
}

impl Uris {
    /// The URI of a file, as in the spec, with control characters escaped.
    pub(super) fn of(&self, file: &str) -> String {
        let uri = if self.single { self.place.uri.clone() } else { self.place.uri_of(file) };
        printable(&uri).into_owned()
    }
}
