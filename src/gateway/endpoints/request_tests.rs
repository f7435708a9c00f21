//! What an agent can write into a request, and what the provider gets of it.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn endpoint(auth: KeyStyle) -> ResolvedEndpoint {
    ResolvedEndpoint {
        upstream: "https://api.example.org/v1".parse().unwrap(),
        key: Some("KEY".parse().unwrap()),
        auth,
        headers: [("x-version".to_owned(), "1".to_owned())].into(),
        env: None,
        prices: Vec::new(),
    }
}

fn routed(method: &str, uri: &str) -> Result<(String, String), Refused> {
    let uri = uri.parse().map_err(|_| Refused::Path)?;
    let method = method.parse().unwrap();
    let (name, rest) = route(&method, &uri)?;
    Ok((name.to_owned(), rest.to_owned()))
}

#[rstest]
#[case("/acme", "acme", "")]
#[case("/acme/", "acme", "/")]
#[case("/acme?a=b", "acme", "?a=b")]
#[case("/acme/v1/messages?beta=true", "acme", "/v1/messages?beta=true")]
#[case("/acme/models/org%2Fname", "acme", "/models/org%2Fname")]
#[case("/acme/v1/a..b/...", "acme", "/v1/a..b/...")]
#[case("/acme/v1?next=../../x", "acme", "/v1?next=../../x")]
fn paths(#[case] uri: &str, #[case] name: &str, #[case] rest: &str) {
    assert_eq!(
        routed("POST", uri).unwrap(),
        (name.to_owned(), rest.to_owned())
    );
}

#[rstest]
#[case("/acme/../other")]
#[case("/acme/v1/..")]
#[case("/acme/./v1")]
#[case("/acme/%2e%2e/other")]
#[case("/acme/.%2E/other")]
#[case("/acme/%252e%252e/other")]
#[case("/acme/..%2fother")]
#[case("/acme/a%5c..%5cother")]
#[case("/acme/..;/other")]
#[case("/acme/%25252525252e")]
#[case("/acme/a%00b")]
#[case("/acme/a%0d%0ab")]
fn a_path_stays_below_its_endpoint(#[case] uri: &str) {
    assert!(matches!(routed("GET", uri), Err(Refused::Path)), "{uri}");
}

#[rstest]
#[case("GET", "http://127.0.0.1:3130/acme")]
#[case("GET", "http://evil.example/acme")]
#[case("GET", "https://evil.example/acme")]
fn a_whole_url_is_for_a_proxy(#[case] method: &str, #[case] uri: &str) {
    assert!(matches!(routed(method, uri), Err(Refused::WholeUrl)));
}

#[rstest]
#[case("CONNECT", "evil.example:443")]
#[case("TRACE", "/acme")]
fn methods_that_are_for_proxies_are_not_passed_on(#[case] method: &str, #[case] uri: &str) {
    assert!(matches!(routed(method, uri), Err(Refused::Method)));
}

#[rstest]
#[case(
    "https://api.example.org",
    "/v1/messages?a",
    "https://api.example.org/v1/messages?a"
)]
#[case("https://api.example.org", "", "https://api.example.org/")]
#[case("https://api.example.org", "?a", "https://api.example.org/?a")]
#[case("https://api.example.org/v1", "", "https://api.example.org/v1")]
#[case(
    "https://api.example.org/v1",
    "/chat",
    "https://api.example.org/v1/chat"
)]
#[case(
    "http://10.0.0.1:8080",
    "//evil.example/x",
    "http://10.0.0.1:8080//evil.example/x"
)]
fn targets(#[case] upstream: &str, #[case] rest: &str, #[case] expected: &str) {
    let target = target(&upstream.parse().unwrap(), rest).unwrap();
    assert_eq!(target.to_string(), expected);
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let pairs = lines
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    pairs.collect()
}

#[rstest]
#[case(KeyStyle::Bearer, "authorization", "Bearer secret")]
#[case(KeyStyle::Header("x-api-key".to_owned()), "x-api-key", "secret")]
fn the_key_takes_the_place_of_whatever_the_agent_sends(
    #[case] auth: KeyStyle,
    #[case] header: &str,
    #[case] value: &str,
) {
    let mut sent = headers(&[
        ("authorization", "Bearer of-the-agent"),
        ("x-api-key", "of-the-agent"),
        ("api-key", "of-the-agent"),
        ("cookie", "a=b"),
        ("host", "127.0.0.1:3130"),
        ("connection", "keep-alive, x-secret-hop"),
        ("x-secret-hop", "1"),
        ("te", "trailers"),
        ("accept-encoding", "gzip, br"),
        ("x-version", "2"),
        ("content-type", "application/json"),
    ]);
    prepare(
        &mut sent,
        &endpoint(auth),
        Some(&"secret".to_owned().into()),
    )
    .unwrap();
    let expected = headers(&[
        (header, value),
        ("accept-encoding", "identity"),
        ("x-version", "2"),
        ("content-type", "application/json"),
    ]);
    assert_eq!(sent, expected);
    assert!(
        !format!("{sent:?}").contains("secret"),
        "a key is not printed"
    );
}

#[test]
fn a_header_that_is_lacking_is_added() {
    let mut sent = HeaderMap::new();
    prepare(&mut sent, &endpoint(KeyStyle::None), None).unwrap();
    assert_eq!(sent["x-version"], "1");
    assert!(!sent.contains_key("authorization"));
}

#[test]
fn a_key_that_is_no_headers_value_is_not_sent() {
    let key = "a\r\nx-other: b".to_owned().into();
    let prepared = prepare(
        &mut HeaderMap::new(),
        &endpoint(KeyStyle::Bearer),
        Some(&key),
    );
    assert!(matches!(prepared, Err(Refused::Key)));
}

#[rstest]
#[case("/v1/files/1", Some("/acme/files/1"))]
#[case("https://api.example.org/v1/files?a", Some("/acme/files?a"))]
#[case("https://api.example.org/v1", Some("/acme"))]
#[case("/v2/files", None)]
#[case("/v10", None)]
#[case("https://api.example.org.evil.net/v1/x", None)]
#[case("https://elsewhere.example/v1/x", None)]
#[case("//elsewhere.example/v1/x", None)]
fn places(#[case] place: &str, #[case] expected: Option<&str>) {
    let mut answer = headers(&[
        ("location", place),
        ("set-cookie", "session=1"),
        ("connection", "close"),
    ]);
    prepare_answer(&mut answer, "acme", &endpoint(KeyStyle::Bearer).upstream);
    assert_eq!(answer, headers(&[("location", expected.unwrap_or(place))]));
}

#[rstest]
#[case(r#"{"stream":true,"model":"m"}"#, true)]
#[case(" {\"messages\":[{\"content\":\"{\"}],\n\"stream\": true}", true)]
#[case(r#"{"stream":false}"#, false)]
#[case(r#"{"model":"m"}"#, false)]
#[case(r#"{"stream":true,"stream_options":{"include_usage":true}}"#, false)]
#[case(r#"{"stream":true,"stream":true}"#, false)]
#[case("[true]", false)]
#[case("{\"stream\":true", false)]
#[case("", false)]
fn a_stream_is_asked_to_say_its_usage(#[case] body: &str, #[case] changes: bool) {
    let changed = with_usage(Bytes::copy_from_slice(body.as_bytes()));
    if changes {
        let mut changed: serde_json::Value = serde_json::from_slice(&changed).unwrap();
        let options = changed
            .as_object_mut()
            .unwrap()
            .remove("stream_options")
            .unwrap();
        assert_eq!(options["include_usage"], true);
        assert_eq!(
            changed,
            serde_json::from_str::<serde_json::Value>(body).unwrap()
        );
    } else {
        assert_eq!(changed, body.as_bytes());
    }
}

#[rstest]
#[case(
    r#"{"stream_options":{"include_usage":false},"stream":true,"z":1,"a":2.50}"#,
    r#"{"stream_options":{"include_usage":true},"stream":true,"z":1,"a":2.50}"#
)]
#[case(
    r#"{"a":["}\"",{"stream_options":1}],"stream":true,"stream_options": null}"#,
    r#"{"a":["}\"",{"stream_options":1}],"stream":true,"stream_options":{"include_usage":true}}"#
)]
#[case(
    r#"{"stream":true,"stream\u005foptions":{"a":[1]}}"#,
    r#"{"stream":true,"stream\u005foptions":{"a":[1],"include_usage":true}}"#
)]
fn an_agent_cannot_ask_for_a_stream_without_its_usage(#[case] body: &str, #[case] sent: &str) {
    let changed = with_usage(Bytes::copy_from_slice(body.as_bytes()));
    assert_eq!(changed, sent.as_bytes());
}

#[rstest]
#[case("/v1/realtime/client_secrets", Purpose::Credentials)]
#[case("/v1//Realtime/client%5fsecrets/", Purpose::Credentials)]
#[case("/v1/realtime/sessions", Purpose::Credentials)]
#[case("/v1alpha/auth_tokens", Purpose::Credentials)]
#[case("/v1/batches", Purpose::Uncounted)]
#[case("/v1/messages/batches", Purpose::Uncounted)]
#[case("/v1beta/models/m:batchGenerateContent", Purpose::Uncounted)]
#[case("/v1/realtime/calls", Purpose::Uncounted)]
#[case("/v1/chat/completions", Purpose::Chat)]
#[case("/v1/responses", Purpose::Response)]
#[case("/v1/responses/input_tokens", Purpose::Free)]
#[case("/v1/messages/count_tokens", Purpose::Free)]
#[case("/v1beta/models/m:countTokens", Purpose::Free)]
#[case("/v1/files", Purpose::Free)]
#[case("/v1/messages", Purpose::Other)]
#[case("/v1beta/models/m:generateContent", Purpose::Other)]
fn purposes(#[case] path: &str, #[case] purpose: Purpose) {
    assert_eq!(Purpose::of(&Method::POST, path), purpose);
    let reading = Purpose::of(&Method::GET, path);
    assert_eq!(
        reading == Purpose::Credentials,
        purpose == Purpose::Credentials
    );
}

#[rstest]
#[case(r#"{"background":true}"#, true)]
#[case(r#"{"b\u0061ckground":true}"#, true)]
#[case(r#"{"background":false,"background":true}"#, true)]
#[case("no JSON", true)]
#[case(r#"{"background":false}"#, false)]
#[case(r#"{"input":"\"background\":true","background":null}"#, false)]
fn a_response_in_the_background_is_seen(#[case] body: &str, #[case] is: bool) {
    assert_eq!(is_background(body.as_bytes()), is);
}

proptest! {
    #[test]
    fn whatever_is_asked_goes_to_the_provider_below_its_path(path in "/[a-z]{1,3}[/.;%25efEF?@:a-z\\\\]{0,30}") {
        if let Ok(uri) = path.parse::<Uri>()
            && let Ok((_, rest)) = route(&Method::GET, &uri)
            && let Ok(target) = target(&endpoint(KeyStyle::Bearer).upstream, rest)
        {
            prop_assert_eq!(target.authority().unwrap().as_str(), "api.example.org");
            prop_assert!(target.path().starts_with("/v1"));
            // As a server reads it that resolves dots after decoding.
            let base = "http://server.example";
            let plain = percent_decode_str(target.path()).decode_utf8_lossy().replace('\\', "/");
            let depth = plain.split('/').skip(1).try_fold(0_i32, |depth, part| match part {
                ".." if depth == 0 => None,
                ".." => Some(depth - 1),
                _ => Some(depth + 1),
            });
            prop_assert!(depth.is_some(), "{}{}", base, plain);
        }
    }
}
