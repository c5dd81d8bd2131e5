//! Which messages of two lists are the same by their headers: for mail that another tool has brought to the target, where nothing
//! better is known. In doubt they are not: a message that is there twice is no loss.

use std::collections::HashMap;
use std::hash::Hash;

use super::super::message::Message;
use super::super::model::Uid;

/// What the header of a message says in some fields. None if it says nothing there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderKey {
    text: Vec<u8>,
    /// Every field is there.
    whole: bool,
}

impl HeaderKey {
    /// The key of these header lines. Fields are told apart without case; folding and blanks don't matter, as servers and tools
    /// change them, and nor do octets that not everybody stores.
    #[must_use]
    pub fn of(header: &[u8], fields: &[String]) -> Option<Self> {
        let mut values: Vec<Vec<Vec<u8>>> = vec![Vec::new(); fields.len()];
        let mut current: Option<usize> = None;
        for line in header.split(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let folded = line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
            let value = if folded {
                line
            } else {
                let (name, value) = match line.iter().position(|&octet| octet == b':') {
                    Some(colon) => line.split_at(colon),
                    None => (line, &[][..]),
                };
                current = fields.iter().position(|field| field.as_bytes().eq_ignore_ascii_case(name.trim_ascii_end()));
                if let Some(all) = current.and_then(|at| values.get_mut(at)) {
                    all.push(Vec::new());
                }
                value.get(1..).unwrap_or_default()
            };
            if let Some(last) = current.and_then(|at| values.get_mut(at)).and_then(|all| all.last_mut()) {
                let plain = |octet: u8| if octet.is_ascii_graphic() { octet } else { b'?' };
                last.extend(value.iter().filter(|octet| !octet.is_ascii_whitespace()).map(|&octet| plain(octet)));
            }
        }
        values.iter_mut().for_each(|all| all.retain(|value| !value.is_empty()));
        let whole = values.iter().all(|all| !all.is_empty());
        if values.iter().all(Vec::is_empty) {
            return None;
        }
        let text = values.iter().map(|all| all.join(&b'\n')).collect::<Vec<_>>().join(&b'\0');
        Some(Self { text, whole })
    }
}

/// Pairs of the same message: UID at the source and at the target. A message has a counterpart if its header says everything
/// and no other message on either side says the same; or if size and date agree as well, and then those that agree in all of it
/// are taken in order.
#[must_use]
pub fn pair(source: &[(&Message, HeaderKey)], target: &[(&Message, HeaderKey)]) -> Vec<(Uid, Uid)> {
    let mut pairs = Vec::new();
    let full = |(message, key): &(&Message, HeaderKey)| (key.clone(), message.size, message.internal_date);
    let (here, there) = (grouped(source, full), grouped(target, full));
    for (key, uids) in &here {
        pairs.extend(uids.iter().copied().zip(there.get(key).into_iter().flatten().copied()));
    }
    let alone = |(_, key): &(&Message, HeaderKey)| key.clone();
    let (here, there) = (grouped(source, alone), grouped(target, alone));
    for (key, uids) in here.iter().filter(|(key, _)| key.whole) {
        if let ([uid], Some([other])) = (uids.as_slice(), there.get(key).map(Vec::as_slice)) {
            pairs.push((*uid, *other));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

fn grouped<'a, K: Eq + Hash>(
    messages: &[(&'a Message, HeaderKey)],
    key: impl Fn(&(&'a Message, HeaderKey)) -> K,
) -> HashMap<K, Vec<Uid>> {
    let mut groups: HashMap<K, Vec<Uid>> = HashMap::new();
    for message in messages {
        groups.entry(key(message)).or_default().push(message.0.uid);
    }
    groups
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::diff::tests::message;
    use super::*;

    fn fields() -> Vec<String> {
        ["Date", "Message-ID"].map(str::to_owned).into()
    }

    fn key(header: &str) -> Option<HeaderKey> {
        HeaderKey::of(header.as_bytes(), &fields())
    }

    #[test]
    fn folding_blanks_case_and_order_of_fields_do_not_matter_and_values_do() {
        let plain = key("Date: Mon, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <a@b>\r\n\r\n");
        let folded = key("MESSAGE-ID:\r\n <a@b>\nSubject: x\n y\nDate : Mon,\n\t1 Jan  2026 00:00:00 +0000\n\n");
        assert_eq!(plain, folded);
        assert_ne!(plain, key("Date: Mon, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <A@b>\r\n\r\n"));
        assert_eq!(key("Subject: only\r\n\r\n"), None);
        assert_eq!(key("Date: \r\nMessage-ID:\r\n"), None);
        assert_eq!(key("Date: \u{e4}\r\n"), key("Date: ??\r\n"));
    }

    #[test]
    fn what_is_alone_on_both_sides_is_the_same_and_of_many_only_what_agrees_in_all() {
        let whole = |id: &str| key(&format!("Date: x\nMessage-ID: <{id}>\n")).unwrap();
        let half = |id: &str| key(&format!("Message-ID: <{id}>\n")).unwrap();
        let sized = |uid: u32, size: u64| Message { size, internal_date: Some(1), ..message(uid, 0, &[]) };
        let (a, b, c, d) = (sized(1, 10), sized(2, 20), sized(3, 30), sized(4, 30));
        let (w, x, y, z) = (sized(11, 11), sized(12, 20), sized(13, 31), sized(14, 30));
        let pairs = |here: &[(&Message, HeaderKey)], there: &[(&Message, HeaderKey)]| {
            pair(here, there).iter().map(|(a, b)| (a.0, b.0)).collect::<Vec<_>>()
        };
        assert_eq!(
            pairs(&[(&a, whole("1"))], &[(&w, whole("1"))]),
            [(1, 11)],
            "another tool may have changed the size"
        );
        assert_eq!(pairs(&[(&a, half("1"))], &[(&w, half("1"))]), [], "half of the header is too little for that");
        assert_eq!(pairs(&[(&b, half("1"))], &[(&x, half("1"))]), [(2, 12)]);
        let two = [(&c, whole("1")), (&d, whole("1"))];
        assert_eq!(pairs(&two, &[(&y, whole("1"))]), [], "it can't be told which of the two it is");
        assert_eq!(pairs(&two, &[(&z, whole("1"))]), [(3, 14)], "exact twins are alike");
    }
}
