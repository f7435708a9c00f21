//! Answers of the two providers, whole, broken off and in pieces.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const ANTHROPIC: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-large-4",
 "content":[{"type":"text","text":"usage is {\"usage\":{\"output_tokens\":9999999}}"}],"stop_reason":"end_turn",
 "usage":{"input_tokens":12,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":34,
          "service_tier":"standard","cache_creation":{"ephemeral_5m_input_tokens":5}}}"#;

const ANTHROPIC_EVENTS: &str = "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-large-4\",\
 \"content\":[],\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\r\n\r\n\
 event: ping\ndata: {\"type\": \"ping\"}\n\n\
 event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"twelve bytes\"}}\n\n\
 event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\ndata: \"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"twelve bytes\"}}\n\n\
 event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n\
 event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const OPENAI: &str = r#"{"object":"chat.completion","model":"gpt-large","choices":[{"index":0,"message":{"role":"assistant","content":"hello"}}],
 "usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":80},
          "completion_tokens_details":{"reasoning_tokens":10}}}"#;

const OPENAI_EVENTS: &str = ": hello\n\n\
 data: {\"model\":\"gpt-large\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"four and four and four\"}}],\"usage\":null}\n\n\
 data: {\"model\":\"gpt-large\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":6,\"total_tokens\":15}}\n\n\
 data: [DONE]\n\n";

const RESPONSES_EVENTS: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-large\",\"usage\":null}}\n\n\
 event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"eight by\"}\n\n\
 event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-large\",\
 \"output\":[{\"content\":[{\"text\":\"eight by\"}]}],\"usage\":{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":6},\"output_tokens\":87}}}\n\n";

fn read(form: Form, pieces: &[&[u8]]) -> Said {
    let mut reading = Reading::new(form);
    for piece in pieces {
        reading.feed(piece);
    }
    reading.end();
    reading.said().clone()
}

fn tokens(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Tokens {
    Tokens {
        input,
        output,
        cache_read,
        cache_write,
    }
}

#[rstest]
#[case(Form::Json, ANTHROPIC, "claude-large-4", tokens(12, 34, 7, 5))]
#[case(
    Form::Events,
    ANTHROPIC_EVENTS,
    "claude-large-4",
    tokens(25, 15, 100, 0)
)]
#[case(Form::Json, OPENAI, "gpt-large", tokens(20, 20, 80, 0))]
#[case(Form::Events, OPENAI_EVENTS, "gpt-large", tokens(9, 6, 0, 0))]
#[case(Form::Events, RESPONSES_EVENTS, "gpt-large", tokens(30, 87, 6, 0))]
fn what_providers_count_is_read(
    #[case] form: Form,
    #[case] answer: &str,
    #[case] model: &str,
    #[case] tokens: Tokens,
) {
    let said = read(form, &[answer.as_bytes()]);
    assert_eq!(said.model.as_deref(), Some(model));
    let expected = Used {
        tokens,
        is_estimate: false,
    };
    assert_eq!(said.used((4000, 9999), true), expected);
}

#[rstest]
#[case::input_is_known_from_the_start(
    ANTHROPIC_EVENTS,
    "event: message_delta",
    tokens(25, 6, 100, 0)
)]
#[case::nothing_was_counted_yet(
    OPENAI_EVENTS,
    "data: {\"model\":\"gpt-large\",\"choices\":[],",
    tokens(100, 6, 0, 0)
)]
#[case::words_of_a_response(RESPONSES_EVENTS, "event: response.completed", tokens(100, 2, 0, 0))]
#[case::nothing_came_at_all(RESPONSES_EVENTS, "event: response.created", tokens(100, 0, 0, 0))]
fn a_stream_that_breaks_off_is_guessed_from_its_words(
    #[case] answer: &str,
    #[case] before: &str,
    #[case] expected: Tokens,
) {
    let (seen, _) = answer.split_once(before).unwrap();
    let used = read(Form::Events, &[seen.as_bytes()]).used((400, 9999), false);
    assert_eq!(used.tokens, expected);
    assert!(used.is_estimate);
}

#[rstest]
#[case(Form::Json, r#"{"candidates":[{"parts":["sixteen bytes ok"]}]}"#)]
#[case(Form::Json, r#"{"id":"resp_1","status":"queued","usage":null}"#)]
#[case(Form::Events, "data: {\"status\":\"queued\"}\n\n")]
fn what_says_nothing_that_can_be_read_is_guessed_by_its_length(
    #[case] form: Form,
    #[case] answer: &str,
) {
    let used = read(form, &[answer.as_bytes()]).used((4000, 400), true);
    assert_eq!(used.tokens, tokens(1000, 100, 0, 0));
    assert!(used.is_estimate);
}

#[test]
fn nothing_at_all_costs_nothing() {
    assert_eq!(guessed(0, 0), Used::default());
}

#[rstest]
#[case("application/json", Some(Form::Json))]
#[case("Application/JSON; charset=utf-8", Some(Form::Json))]
#[case("text/event-stream;charset=utf-8", Some(Form::Events))]
#[case("audio/mpeg", None)]
fn forms(#[case] content_type: &str, #[case] form: Option<Form>) {
    assert_eq!(Form::of(content_type), form);
}

proptest! {
    #[test]
    fn pieces_of_any_size_say_the_same(
        which in 0..5_usize,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let answers = [ANTHROPIC, OPENAI, ANTHROPIC_EVENTS, OPENAI_EVENTS, RESPONSES_EVENTS];
        let form = if which < 2 { Form::Json } else { Form::Events };
        let answer = answers[which].as_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(answer.len())).collect();
        cuts.extend([0, answer.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect();
        prop_assert_eq!(read(form, &pieces), read(form, &[answer]));
    }

    #[test]
    fn lines_may_end_as_they_like(end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")]) {
        let answer = ANTHROPIC_EVENTS.replace("\r\n", "\n").replace('\n', end);
        prop_assert_eq!(read(Form::Events, &[answer.as_bytes()]), read(Form::Events, &[ANTHROPIC_EVENTS.as_bytes()]));
    }

    #[test]
    fn every_byte_by_itself_says_the_same(which in 0..3_usize) {
        let answer = [ANTHROPIC_EVENTS, OPENAI_EVENTS, RESPONSES_EVENTS][which].as_bytes();
        let pieces: Vec<&[u8]> = answer.chunks(1).collect();
        prop_assert_eq!(read(Form::Events, &pieces), read(Form::Events, &[answer]));
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for form in [Form::Json, Form::Events] {
            read(form, &[&bytes]).used((10, 10), false);
        }
    }
}
