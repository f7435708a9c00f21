//! The parsers of what a server says, for `crate::fuzz`.

use super::answer::{Refusal, retry_after};
use super::s3_listing::{self, ObjectsPage, VersionsPage};
use super::url::StoreUrl;
use crate::fuzz::Target;

/// A page as AWS gives it, with everything that may be in one.
const VERSIONS: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix>a</Prefix>
<IsTruncated>true</IsTruncated><DeleteMarker><Key>a/1</Key><VersionId>m1</VersionId><IsLatest>true</IsLatest>
<LastModified>2026-11-21T10:00:01.000Z</LastModified><Owner><ID>x</ID></Owner></DeleteMarker><Version><Key>a/1&amp;</Key>
<VersionId>v1</VersionId><IsLatest>false</IsLatest><LastModified>2026-11-21T10:00:00.000Z</LastModified><ETag>"x"</ETag>
<Size>7</Size></Version><NextKeyMarker>a/2</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker></ListVersionsResult>"#;

const OBJECTS: &[u8] = br"<ListBucketResult><Name>b</Name><KeyCount>1</KeyCount><Contents><Key>a/1</Key><Size>12</Size>
<LastModified>2026-11-21T10:00:00Z</LastModified></Contents><NextContinuationToken>t</NextContinuationToken></ListBucketResult>";

const REFUSAL: &[u8] =
    b"<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>";

/// All of them.
pub fn targets() -> Vec<Target> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    vec![
        Target::new(
            "listing",
            vec![VERSIONS.to_vec(), OBJECTS.to_vec()],
            |bytes| {
                let _ = s3_listing::read::<VersionsPage>(bytes).map(drop);
                let _ = s3_listing::read::<ObjectsPage>(bytes).map(drop);
            },
        ),
        Target::new("refusal", vec![REFUSAL.to_vec()], move |bytes| {
            let refusal = Refusal::read(503, &text(bytes));
            let _ = refusal.kind(None);
            assert!(refusal.to_string().len() < 4000, "a message without end");
        }),
        Target::new(
            "retry-after",
            vec![b"120".to_vec(), b"Sat, 21 Nov 2026 10:00:00 GMT".to_vec()],
            move |bytes| {
                let now = "Sat, 21 Nov 2026 09:59:00 GMT";
                let _ = retry_after(&text(bytes), Some(now));
            },
        ),
        Target::new(
            "store's address",
            vec![b"s3://bucket/prefix".to_vec()],
            move |bytes| {
                let _ = text(bytes).parse::<StoreUrl>();
            },
        ),
    ]
}
