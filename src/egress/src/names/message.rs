//! Questions and answers on the wire. The format itself is the crate `domain`'s.

use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::{Message, MessageBuilder, Name, Rtype, ToName as _};
use domain::rdata::{A, Aaaa};

/// Addresses of one answer: more fit into no datagram of 512 bytes anyway.
pub(super) const MOST: usize = 16;

/// Without EDNS nobody has to take more.
const DATAGRAM: usize = 512;

/// What a resolver may send us in one datagram.
const PAYLOAD: u16 = 1232;

/// The two kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    fn rtype(self) -> Rtype {
        match self {
            Self::V4 => Rtype::A,
            Self::V6 => Rtype::AAAA,
        }
    }
}

/// What a bot asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// For the addresses of a name, in lower case and without the last dot. `None`: for something else
    /// about it.
    Name(String, Option<Family>),
    /// Something that no stub answers.
    Odd(Rcode),
    /// No question at all: not worth an answer.
    Noise,
}

/// Reads a question.
pub(super) fn read(bytes: &[u8]) -> Asked {
    let Ok(message) = Message::from_slice(bytes) else {
        return Asked::Noise;
    };
    if message.header().qr() {
        return Asked::Noise;
    }
    if message.header().opcode() != Opcode::QUERY {
        return Asked::Odd(Rcode::NOTIMP);
    }
    let Ok(question) = message.sole_question() else {
        return Asked::Odd(Rcode::FORMERR);
    };
    if question.qclass() != Class::IN {
        return Asked::Odd(Rcode::REFUSED);
    }
    let name: Name<Vec<u8>> = question.qname().to_name();
    // Bytes that no host name has come out escaped, and match no rule.
    let text = name.to_string().to_ascii_lowercase();
    let family = match question.qtype() {
        Rtype::A => Some(Family::V4),
        Rtype::AAAA => Some(Family::V6),
        _ => None,
    };
    Asked::Name(text.trim_end_matches('.').to_owned(), family)
}

/// Answers a question. `None` when it can't be: then nobody is answered.
pub(super) fn answer(
    question: &[u8],
    rcode: Rcode,
    addresses: &[IpAddr],
    ttl: Duration,
) -> Option<Vec<u8>> {
    let question = Message::from_slice(question).ok()?;
    let name: Option<Name<Vec<u8>>> = question
        .sole_question()
        .ok()
        .map(|own| own.qname().to_name());
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_ra(true);
    builder.set_push_limit(DATAGRAM);
    let mut builder = builder.start_answer(question, rcode).ok()?;
    let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
    if let Some(name) = name {
        for address in addresses.iter().take(MOST) {
            let pushed = match address {
                IpAddr::V4(own) => builder.push((&name, ttl, A::new(*own))),
                IpAddr::V6(own) => builder.push((&name, ttl, Aaaa::new(*own))),
            };
            // What does not fit is one address less.
            if pushed.is_err() {
                break;
            }
        }
    }
    Some(builder.finish())
}

/// A question to a resolver.
pub(super) fn question(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let name: Name<Vec<u8>> = Name::vec_from_str(name).ok()?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((&name, family.rtype())).ok()?;
    let mut builder = builder.additional();
    builder
        .opt(|opt| {
            opt.set_udp_payload_size(PAYLOAD);
            Ok(())
        })
        .ok()?;
    Some(builder.finish())
}

/// What a resolver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Addresses, maybe none, and how long they hold.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name.
    NoName,
    /// More than fits: to be asked over TCP.
    Truncated,
    /// It can't or will not say.
    Failed,
    /// Not the answer to this question.
    Foreign,
}

/// Reads the answer to `question`.
pub(super) fn heard(question: &[u8], bytes: &[u8], family: Family) -> Said {
    let (Ok(question), Ok(message)) = (Message::from_slice(question), Message::from_slice(bytes))
    else {
        return Said::Foreign;
    };
    if !message.is_answer(question) {
        return Said::Foreign;
    }
    match message.header().rcode() {
        Rcode::NOERROR if message.header().tc() => Said::Truncated,
        Rcode::NOERROR => addresses(message, family).unwrap_or(Said::Failed),
        Rcode::NXDOMAIN => Said::NoName,
        _ => Said::Failed,
    }
}

/// Of the name at the end of the chain of aliases; what else stands in the answer is nobody's.
fn addresses(message: &Message<[u8]>, family: Family) -> Option<Said> {
    let owner = message.canonical_name()?;
    let answer = message.answer().ok()?;
    let mut found: Vec<(IpAddr, Duration)> = Vec::new();
    match family {
        Family::V4 => {
            let records = answer.limit_to_in::<A>().flatten();
            let own = records.filter(|record| *record.owner() == owner);
            found.extend(own.take(MOST).map(|record| {
                (
                    IpAddr::V4(record.data().addr()),
                    record.ttl().into_duration(),
                )
            }));
        }
        Family::V6 => {
            let records = answer.limit_to_in::<Aaaa>().flatten();
            let own = records.filter(|record| *record.owner() == owner);
            found.extend(own.take(MOST).map(|record| {
                (
                    IpAddr::V6(record.data().addr()),
                    record.ttl().into_duration(),
                )
            }));
        }
    }
    let ttl = found
        .iter()
        .map(|(_, ttl)| *ttl)
        .min()
        .unwrap_or(Duration::from_secs(30));
    Some(Said::Addresses(
        found.into_iter().map(|(address, _)| address).collect(),
        ttl,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_says_what_was_asked_and_is_read_as_it_was_meant() {
        let asked = question(7, "Erp.Example.com", Family::V4).unwrap();
        assert_eq!(
            read(&asked),
            Asked::Name("erp.example.com".into(), Some(Family::V4))
        );
        let addresses: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let said = answer(&asked, Rcode::NOERROR, &addresses, Duration::from_secs(60)).unwrap();
        assert_eq!(
            heard(&asked, &said, Family::V4),
            Said::Addresses(addresses, Duration::from_secs(60))
        );
        let none = answer(&asked, Rcode::NXDOMAIN, &[], Duration::ZERO).unwrap();
        assert_eq!(heard(&asked, &none, Family::V4), Said::NoName);
        let other = question(8, "erp.example.com", Family::V4).unwrap();
        assert_eq!(heard(&other, &none, Family::V4), Said::Foreign);
        let elsewhere = question(7, "evil.example.com", Family::V4).unwrap();
        assert_eq!(heard(&elsewhere, &none, Family::V4), Said::Foreign);
    }

    #[test]
    fn sixteen_addresses_of_the_longest_name_stay_below_the_size_of_a_datagram() {
        let name = vec!["a".repeat(61); 4].join(".");
        let asked = question(1, &name, Family::V6).unwrap();
        let many: Vec<IpAddr> = (0..64_u128)
            .map(|number| IpAddr::from(number.to_be_bytes()))
            .collect();
        let said = answer(&asked, Rcode::NOERROR, &many, Duration::from_secs(1)).unwrap();
        assert!(said.len() <= DATAGRAM, "{}", said.len());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), flip in 0_usize..60, to in any::<u8>()) {
            let mut asked = question(3, "erp.example.com", Family::V4).unwrap();
            let mut said = answer(&asked, Rcode::NOERROR, &["10.0.0.1".parse().unwrap()], Duration::from_secs(1)).unwrap();
            let _ = (read(&bytes), answer(&bytes, Rcode::NOERROR, &[], Duration::ZERO), heard(&asked, &bytes, Family::V4));
            if let Some(byte) = said.get_mut(flip) { *byte = to; }
            let _ = heard(&asked, &said, Family::V6);
            if let Some(byte) = asked.get_mut(flip) { *byte = to; }
            let _ = (read(&asked), answer(&asked, Rcode::NXDOMAIN, &[], Duration::ZERO));
        }
    }
}
