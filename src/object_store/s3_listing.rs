//! Pages of a bucket's listing, of objects or of versions, read from the server's XML. Pure.

use jiff::Timestamp;
use serde::Deserialize;

/// An object in a page of `ListObjectsV2`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub key: String,
    pub size: u64,
    pub last_modified: Timestamp,
}

/// What names that go on after the delimiter have in common.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CommonPrefix {
    pub prefix: String,
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ObjectsPage {
    #[serde(default)]
    pub contents: Vec<Listed>,
    #[serde(default)]
    pub common_prefixes: Vec<CommonPrefix>,
    pub next_continuation_token: Option<String>,
}

/// A version, or a marker that hides those before it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedVersion {
    pub key: String,
    pub version_id: Option<String>,
    pub is_latest: bool,
    pub last_modified: Timestamp,
    /// A marker has none.
    #[serde(default)]
    pub size: u64,
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VersionsPage {
    #[serde(default, rename = "Version")]
    pub versions: Vec<ListedVersion>,
    #[serde(default, rename = "DeleteMarker")]
    pub markers: Vec<ListedVersion>,
    #[serde(default)]
    pub common_prefixes: Vec<CommonPrefix>,
    #[serde(default)]
    pub is_truncated: bool,
    pub next_key_marker: Option<String>,
    pub next_version_id_marker: Option<String>,
}

/// Reads a page; the error says where it is no such page.
pub(super) fn read<'a, P: Deserialize<'a>>(body: &'a [u8]) -> Result<P, ListingError> {
    let text = std::str::from_utf8(body).map_err(|error| ListingError(error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| ListingError(error.to_string()))
}

/// A page of a listing that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the store's listing cannot be read: {0}")]
pub(super) struct ListingError(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_and_markers_are_told_apart_in_any_order() {
        let page: VersionsPage = read(
            br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Name>bucket</Name><Prefix>a</Prefix><KeyMarker/><MaxKeys>4</MaxKeys>
              <IsTruncated>true</IsTruncated>
              <DeleteMarker><Key>a/1</Key><VersionId>m1</VersionId><IsLatest>true</IsLatest>
                <LastModified>2026-11-21T10:00:01.000Z</LastModified>
                <Owner><ID>x</ID></Owner></DeleteMarker>
              <Version><Key>a/1</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest>
                <LastModified>2026-11-21T10:00:00.000Z</LastModified><ETag>"x"</ETag>
                <Size>7</Size><StorageClass>STANDARD</StorageClass></Version>
              <DeleteMarker><Key>a/2</Key><VersionId>m2</VersionId><IsLatest>true</IsLatest>
                <LastModified>2026-11-21T10:00:01.000Z</LastModified></DeleteMarker>
              <Version><Key>a/2&amp;</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>
                <LastModified>2026-11-21T10:00:00Z</LastModified><Size>0</Size></Version>
              <NextKeyMarker>a/2</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>
            </ListVersionsResult>"#,
        )
        .unwrap();
        let keys = |list: &[ListedVersion]| -> Vec<String> {
            list.iter().map(|one| one.key.clone()).collect()
        };
        assert_eq!(keys(&page.versions), ["a/1", "a/2&"]);
        assert_eq!(keys(&page.markers), ["a/1", "a/2"]);
        assert_eq!((page.versions[0].size, page.markers[0].size), (7, 0));
        assert_eq!(page.next_version_id_marker.as_deref(), Some("v2"));
        assert!(page.is_truncated && page.markers[0].is_latest);
    }

    #[test]
    fn an_empty_bucket_has_an_empty_page() {
        let page: VersionsPage = read(b"<ListVersionsResult/>").unwrap();
        assert!(page.versions.is_empty() && !page.is_truncated);
        let page: ObjectsPage =
            read(b"<ListBucketResult><Name>b</Name></ListBucketResult>").unwrap();
        assert!(page.contents.is_empty() && page.next_continuation_token.is_none());
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for body in [
            &b""[..],
            b"\xff",
            b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
            b"<ListBucketResult><Contents>",
        ] {
            assert!(read::<ObjectsPage>(body).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_page_can_stop_the_reader(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read::<VersionsPage>(&body).map(drop);
            let _ = read::<ObjectsPage>(&body).map(drop);
        }
    }
}
