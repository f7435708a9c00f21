//! Signs a PUT whose SHA-256 is known: rust-s3 would hash the body twice for that, and once more for an MD5.
//! Headers and signing key are rust-s3's; only what the body decides is put in its place.

use ::s3::command::Command;
use ::s3::error::S3Error;
use ::s3::request::Request as _;
use ::s3::request::tokio_backend::ReqwestRequest;
use ::s3::signing;
use hmac::Mac as _;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The headers of a PUT of `length` bytes with this digest; `empty` is the same request with an empty body.
///
/// The server checks the body against the signed digest, so a wrong one is refused, and an MD5 has nothing to add.
pub(super) async fn headers_for(
    empty: &ReqwestRequest<'_>,
    length: usize,
    sha256: [u8; 32],
) -> Result<HeaderMap, S3Error> {
    debug_assert!(matches!(
        empty.command,
        Command::PutObject { content: [], .. }
    ));
    let mut headers = empty.headers().await?;
    headers.remove(CONTENT_MD5);
    // What follows was added by the signer, after or for its signature.
    headers.remove(AUTHORIZATION);
    let date = headers.remove(DATE);
    let sha256 = hex::encode(sha256);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_SHA256, sha256.parse()?);

    let canonical = signing::canonical_request("PUT", &empty.url()?, &headers, &sha256)?;
    let text = empty.string_to_sign(&canonical)?;
    let mut hmac = signing::HmacSha256::new_from_slice(&empty.signing_key().await?)?;
    hmac.update(text.as_bytes());
    let signature = hex::encode(hmac.finalize().into_bytes());
    if let Some(key) = empty.bucket.access_key().await? {
        let authorization = signing::authorization_header(
            &key,
            &empty.datetime,
            &empty.bucket.region(),
            &signing::signed_header_string(&headers),
            &signature,
        )?;
        headers.insert(AUTHORIZATION, authorization.parse()?);
    }
    headers.extend(date.map(|date| (DATE, date)));
    Ok(headers)
}

/// Whether a refusal asks for an MD5 after all: buckets with Object Lock may
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, "Content-MD5").
pub(super) fn wants_md5(status: u16, message: &str) -> bool {
    status == 400 && message.to_ascii_lowercase().contains("content-md5")
}
