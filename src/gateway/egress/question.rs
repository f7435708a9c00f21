//! DNS messages: what a tenant asks, and the bytes that answer it.
//! Pure; it looks nothing up, and passes nothing on but whether a name may be used.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use crate::tenant::HostName;

/// How long agents may keep an address, in seconds. It stands for its name for a week; what is short is the time
/// for which an agent uses a name without asking, so that a changed policy is met soon.
const TTL: u32 = 60;

/// Largest answer over UDP (RFC 9715 advises 1400 at most; ours have one record).
const MAX_UDP: u16 = 1232;

/// Longest question; a name is 255 bytes at most, and options are of no interest.
pub const MAX_QUESTION: usize = 4096;

/// A question that can be answered.
#[derive(Debug)]
pub struct Question {
    message: Message,
    query: Query,
    /// What is asked for.
    pub asked: Asked,
}

/// What a question asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The IPv4 address of a name.
    Address(HostName),
    /// Something else about a name: there is nothing. IPv6 addresses, services, texts.
    Else(HostName),
    /// Something that is no host's name.
    NoName,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The address that stands for the name.
    Address(Ipv4Addr),
    /// The name is there, and has nothing of this kind.
    NoData,
    /// There is no such name.
    NoName,
    /// The policy does not allow the name.
    Refused,
    /// It could not be found out.
    Failed,
}

/// Reads a question. `Err` has the bytes that answer what cannot be answered, or nothing for what
/// deserves no answer.
///
/// # Errors
/// It is no question in the Internet's class, or there is not one of them.
pub fn read(bytes: &[u8]) -> Result<Question, Option<Vec<u8>>> {
    let Ok(message) = Message::from_vec(bytes) else {
        return Err(unreadable(bytes));
    };
    if message.metadata.message_type != MessageType::Query {
        // Two servers that answer each other's answers would never end.
        return Err(None);
    }
    let refuse = |code| Err(reply(&message, None, code, None));
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    let [query] = message.queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    if query.query_class() != DNSClass::IN {
        return refuse(ResponseCode::Refused);
    }
    let asked = match (query.name().to_ascii().parse(), query.query_type()) {
        (Ok(name), RecordType::A) => Asked::Address(name),
        (Ok(name), _) => Asked::Else(name),
        (Err(_), _) => Asked::NoName,
    };
    let query = query.clone();
    Ok(Question {
        message,
        query,
        asked,
    })
}

impl Question {
    /// The bytes of the answer.
    pub fn answer(&self, answer: Answer) -> Option<Vec<u8>> {
        let code = match answer {
            Answer::Address(_) | Answer::NoData => ResponseCode::NoError,
            Answer::NoName => ResponseCode::NXDomain,
            Answer::Refused => ResponseCode::Refused,
            Answer::Failed => ResponseCode::ServFail,
        };
        let record = match answer {
            Answer::Address(address) => Some(Record::from_rdata(
                self.query.name().clone(),
                TTL,
                RData::A(A(address)),
            )),
            _ => None,
        };
        reply(&self.message, Some(&self.query), code, record)
    }
}

fn reply(
    to: &Message,
    query: Option<&Query>,
    code: ResponseCode,
    record: Option<Record>,
) -> Option<Vec<u8>> {
    let mut reply = Message::response(to.metadata.id, to.metadata.op_code);
    reply.metadata.recursion_desired = to.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.queries.extend(query.cloned());
    reply.answers.extend(record);
    if to.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        reply.edns = Some(edns);
    }
    // A name that was read can be written.
    reply.to_vec().ok()
}

/// "Format error" for bytes that begin like a question, nothing for others (RFC 1035, section 4.1.1).
fn unreadable(bytes: &[u8]) -> Option<Vec<u8>> {
    let [first, second, flags, ..] = bytes else {
        return None;
    };
    let is_response = flags & 0x80 != 0;
    let id = u16::from_be_bytes([*first, *second]);
    let error = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    (!is_response).then(|| error.to_vec().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn asking(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn asked(name: &str, kind: RecordType) -> Question {
        read(&asking(name, kind).to_vec().unwrap()).unwrap()
    }

    #[rstest]
    #[case("api.Example.org.", RecordType::A, Asked::Address("api.example.org".parse().unwrap()))]
    #[case("api.example.org.", RecordType::AAAA, Asked::Else("api.example.org".parse().unwrap()))]
    #[case("api.example.org.", RecordType::HTTPS, Asked::Else("api.example.org".parse().unwrap()))]
    #[case("api.example.org.", RecordType::TXT, Asked::Else("api.example.org".parse().unwrap()))]
    #[case(".", RecordType::NS, Asked::NoName)]
    #[case("127.1.", RecordType::A, Asked::NoName)]
    fn questions(#[case] name: &str, #[case] kind: RecordType, #[case] expected: Asked) {
        assert_eq!(asked(name, kind).asked, expected);
    }

    #[test]
    fn an_address_is_answered_with_the_name_as_it_was_asked() {
        let question = asked("API.example.org.", RecordType::A);
        let address = Ipv4Addr::new(198, 18, 1, 0);
        let answer = question.answer(Answer::Address(address)).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, 7);
        assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
        let [record] = answer.answers.as_slice() else {
            panic!("{answer}");
        };
        // Some clients compare the case that they chose by chance (0x20).
        assert_eq!(record.name.to_ascii(), "API.example.org.");
        assert_eq!((record.ttl, &record.data), (60, &RData::A(A(address))));
    }

    #[rstest]
    #[case(Answer::NoData, ResponseCode::NoError)]
    #[case(Answer::NoName, ResponseCode::NXDomain)]
    #[case(Answer::Refused, ResponseCode::Refused)]
    #[case(Answer::Failed, ResponseCode::ServFail)]
    fn nothing_is_answered_with_its_code(#[case] answer: Answer, #[case] expected: ResponseCode) {
        let bytes = asked("a.example.", RecordType::A).answer(answer).unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.response_code, expected);
        assert!(message.answers.is_empty());
    }

    #[test]
    fn an_answer_is_never_answered() {
        let mut message = asking("a.example.", RecordType::A);
        message.metadata.message_type = MessageType::Response;
        assert_eq!(read(&message.to_vec().unwrap()).unwrap_err(), None);
        assert_eq!(read(&[0, 7, 0x80]).unwrap_err(), None);
    }

    #[rstest]
    #[case::two_questions(|message: &mut Message| {
        message.add_query(Query::query(Name::root(), RecordType::A));
    }, ResponseCode::FormErr)]
    #[case::another_class(|message: &mut Message| {
        message.queries[0].set_query_class(DNSClass::CH);
    }, ResponseCode::Refused)]
    #[case::another_operation(|message: &mut Message| {
        message.metadata.op_code = OpCode::Status;
    }, ResponseCode::NotImp)]
    fn what_is_no_question_is_refused(
        #[case] change: fn(&mut Message),
        #[case] expected: ResponseCode,
    ) {
        let mut message = asking("a.example.", RecordType::A);
        change(&mut message);
        let answer = read(&message.to_vec().unwrap()).unwrap_err().unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.response_code, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(question) = read(&bytes) {
                prop_assert!(question.answer(Answer::NoName).is_some());
            }
        }

        #[test]
        fn damaged_questions_make_no_panic(at in 0_usize..33, with in any::<u8>(), keep in 0_usize..40) {
            let mut bytes = asking("api.example.org.", RecordType::A).to_vec().unwrap();
            let index = at % bytes.len();
            bytes[index] = with;
            bytes.truncate(keep);
            let _ = read(&bytes);
        }
    }
}
