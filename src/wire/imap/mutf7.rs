//! Modified UTF-7, the encoding of mailbox names (RFC 3501 §5.1.3).
//!
//! A name is decoded only if encoding it again gives the same octets; so the decoded text is as good an identity as the raw
//! name. Lone surrogates, needless encoding of ASCII, stray bits and raw 8-bit octets all give `None`.

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

const ENGINE: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// The text of a raw mailbox name; `None` if it isn't the canonical encoding of any text.
#[must_use]
pub fn decode(raw: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match octet {
            b'&' => {
                let end = rest.iter().position(|&octet| octet == b'-')?;
                let (run, after) = rest.split_at_checked(end)?;
                rest = after.split_first()?.1;
                if run.is_empty() {
                    text.push('&');
                } else {
                    text.push_str(&decode_run(run)?);
                }
            }
            b' '..=b'~' => text.push(char::from(octet)),
            _ => return None,
        }
    }
    (encode(&text) == raw).then_some(text)
}

/// The raw mailbox name of a text.
#[must_use]
pub fn encode(text: &str) -> Vec<u8> {
    let mut raw = Vec::with_capacity(text.len());
    let mut run = String::new();
    for letter in text.chars() {
        if matches!(letter, ' '..='~') {
            encode_run(&mut run, &mut raw);
            if letter == '&' {
                raw.extend_from_slice(b"&-");
            } else {
                raw.extend(u8::try_from(letter));
            }
        } else {
            run.push(letter);
        }
    }
    encode_run(&mut run, &mut raw);
    raw
}

fn decode_run(run: &[u8]) -> Option<String> {
    let octets = ENGINE.decode(run).ok()?;
    let (pairs, rest) = octets.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(pairs.iter().map(|&pair| u16::from_be_bytes(pair))).collect::<Result<_, _>>().ok()
}

/// Appends `run` to `raw` as `&…-` and empties it.
fn encode_run(run: &mut String, raw: &mut Vec<u8>) {
    if run.is_empty() {
        return;
    }
    let octets: Vec<u8> = run.encode_utf16().flat_map(u16::to_be_bytes).collect();
    raw.push(b'&');
    raw.extend_from_slice(ENGINE.encode(octets).as_bytes());
    raw.push(b'-');
    run.clear();
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{decode, encode};
    use proptest::prelude::*;

    #[test]
    fn known_names() {
        for (raw, text) in [
            ("INBOX", "INBOX"),
            ("", ""),
            ("Entw&APw-rfe", "Entwürfe"),
            ("A&-B", "A&B"),
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("&2D3eAA-", "😀"),
            ("&AAo-", "\n"),
            ("&AH8-", "\u{7f}"),
            ("a%b*c\"d\\e", "a%b*c\"d\\e"),
        ] {
            assert_eq!(decode(raw.as_bytes()).as_deref(), Some(text), "{raw}");
            assert_eq!(encode(text), raw.as_bytes(), "{text}");
        }
    }

    #[test]
    fn only_canonical_names_have_a_text() {
        for raw in [
            "&",
            "&A",
            "&AP&-",
            "&!!!!-",
            "&2D0-",
            "&2D0",
            "&AGE-",
            "&AOQ-&APY-",
            "&AOR-",
            "&AOQ=-",
            "&AO-",
            "&A-",
            "\u{e4}",
            "a\tb",
            "\u{7f}",
            "&AOQ",
            "&3gA-",
            "&ACY-",
        ] {
            assert_eq!(decode(raw.as_bytes()), None, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            let raw = encode(&text);
            prop_assert!(raw.iter().all(|octet| matches!(octet, b' '..=b'~')));
            prop_assert_eq!(decode(&raw), Some(text));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_octets(raw in "[&A-Za-z0-9,+-]{0,16}") {
            if let Some(text) = decode(raw.as_bytes()) {
                prop_assert_eq!(encode(&text), raw.into_bytes());
            }
        }
    }
}
