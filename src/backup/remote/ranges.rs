//! Reading parts of an object, where that is cheaper than all of it.
//! What comes is not checked against the object's digest; whoever uses it checks it otherwise.

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{RemoteError, RemoteRepository};
use crate::backup::commit::ObjectRef;
use crate::object_store::{StoreError, StoreErrorKind};

/// Ranges of one pack that are read at the same time.
const AT_A_TIME: usize = 4;

impl RemoteRepository {
    /// Reads ranges of a pack as a plain read gives it, each with its offset; `None` where that does not give them: the
    /// object was hidden or replaced by a shorter one, or the store knows no ranges.
    ///
    /// # Errors
    /// The store fails otherwise.
    pub(in crate::backup) async fn read_ranges(
        &self,
        pack: ObjectRef,
        ranges: &[Range<u64>],
    ) -> Result<Option<Vec<(u64, Bytes)>>, RemoteError> {
        let name = self.names.pack(&pack.sha256);
        let read: Result<Vec<(u64, Bytes)>, StoreError> = stream::iter(ranges)
            .map(|range| {
                let (store, name) = (&self.store, &name);
                async move {
                    let length = range.end - range.start;
                    let bytes = store.get_range(name, range.start, length).await?;
                    Ok((range.start, bytes))
                }
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await;
        match read {
            Ok(pieces) => Ok(Some(pieces)),
            Err(error) => match error.kind {
                StoreErrorKind::NotFound
                | StoreErrorKind::TooLarge { .. }
                | StoreErrorKind::Unsupported
                | StoreErrorKind::BeyondEnd => Ok(None),
                _ => Err(RemoteError::Store(error)),
            },
        }
    }
}
