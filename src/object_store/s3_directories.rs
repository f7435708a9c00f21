//! Listing only the first components of a bucket's names: the server puts names with the same one together.
//! It costs a request per thousand of them, however much lies below.

use std::collections::BTreeSet;

use super::s3_listing::{CommonPrefix, ObjectsPage, VersionsPage};
use super::{S3Store, StoreError, StoreErrorKind};

/// What names are put together by.
const DELIMITER: (&str, &str) = ("delimiter", "/");

impl S3Store {
    /// The first components of all names, in order, hidden ones included where the store and the key show them.
    pub(super) async fn directories(&self) -> Result<Vec<String>, StoreError> {
        let found = match self.directories_of_versions().await {
            Err(error) if error.kind == StoreErrorKind::Unsupported => {
                self.directories_of_objects().await
            }
            Err(error) if error.kind == StoreErrorKind::Denied => {
                let plain = self.directories_of_objects().await?;
                tracing::warn!("the key may not list versions, so what was hidden cannot be seen");
                Ok(plain)
            }
            found => found,
        };
        Ok(found?.into_iter().collect())
    }

    async fn directories_of_versions(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut found = BTreeSet::new();
        let mut after: (Option<String>, Option<String>) = (None, None);
        loop {
            let mut query = vec![DELIMITER, ("versions", "")];
            query.extend(after.0.as_deref().map(|key| ("key-marker", key)));
            query.extend(after.1.as_deref().map(|id| ("version-id-marker", id)));
            let page: VersionsPage = self.page("", &query).await?;
            self.take(&mut found, &page.common_prefixes);
            let next = (page.next_key_marker, page.next_version_id_marker);
            self.check_progress("", found.len(), page.is_truncated && next == after)?;
            if !page.is_truncated {
                return Ok(found);
            }
            after = next;
        }
    }

    async fn directories_of_objects(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut found = BTreeSet::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![DELIMITER, ("list-type", "2")];
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let page: ObjectsPage = self.page("", &query).await?;
            self.take(&mut found, &page.common_prefixes);
            let next = page.next_continuation_token.filter(|next| !next.is_empty());
            self.check_progress("", found.len(), next.is_some() && next == token)?;
            token = next;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    fn take(&self, found: &mut BTreeSet<String>, listed: &[CommonPrefix]) {
        let names = listed.iter().filter_map(|one| {
            let name = self.name(&one.prefix, "")?;
            Some(name.strip_suffix('/')?.to_owned())
        });
        found.extend(names);
    }
}
