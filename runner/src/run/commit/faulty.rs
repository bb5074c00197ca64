//! A store that does what it is asked and answers something else, as networks do.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, memory::InMemory, path::Path,
};

/// What happens to a write that must not replace a file, or to a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and the reply is lost.
    ReplyLost,
    /// It is done twice, and the second reply is the one that is heard: "exists".
    Resent,
    /// It is not done.
    NotDone,
    /// It times out, and is done when [`Faulty::land`] is called.
    Late,
    /// Half of the bytes are written: the file system has no hard links, and the writer dies.
    Torn,
}

/// A store in memory with faults.
#[derive(Debug, Default)]
pub struct Faulty {
    files: InMemory,
    faults: Mutex<VecDeque<Fault>>,
    late: Mutex<Vec<(Path, PutPayload)>>,
}

impl Faulty {
    /// The next writes have these faults, one each.
    pub fn next(&self, faults: &[Fault]) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Does the writes that were late. Returns how many of them wrote a file.
    pub async fn land(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        let mut landed = 0;
        for (location, payload) in late {
            landed += usize::from(self.files.put_opts(&location, payload, PutMode::Create.into()).await.is_ok());
        }
        landed
    }

    fn fault(&self) -> Option<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

fn no_reply() -> Error {
    Error::Generic { store: "faulty", source: "no reply".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = if options.mode == PutMode::Create { self.fault() } else { None };
        let Some(fault) = fault else { return self.files.put_opts(location, payload, options).await };
        match fault {
            Fault::ReplyLost => {
                self.files.put_opts(location, payload, options).await?;
                Err(no_reply())
            }
            Fault::Resent => {
                self.files.put_opts(location, payload.clone(), options.clone()).await?;
                self.files.put_opts(location, payload, options).await
            }
            Fault::NotDone => Err(no_reply()),
            Fault::Late => {
                self.late.lock().unwrap_or_else(PoisonError::into_inner).push((location.clone(), payload));
                Err(no_reply())
            }
            Fault::Torn => {
                let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
                self.files.put_opts(location, bytes[..bytes.len() / 2].to_vec().into(), options).await?;
                Err(no_reply())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let fault = self.fault();
        if fault != Some(Fault::NotDone) {
            self.files.rename_opts(from, to, options).await?;
        }
        if fault.is_some() { Err(no_reply()) } else { Ok(()) }
    }
}
