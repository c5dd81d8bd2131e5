//! `credentials` under `[old]` and `[new]`.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::model::{Credentials, MasterUser};
use super::raw::{Entry, Keys, Section};
use super::scalar;
use crate::wire::credentials::is_name;

const USER: Keys = Keys { known: &["kind"], later: &[] };
const MASTER_USER: Keys = Keys { known: &["kind", "user", "separator", "password_file"], later: &[] };

/// Reads the table.
pub(super) fn credentials(section: &Section<'_>) -> Option<Credentials> {
    let kind = section.require("kind", "\"user\"")?;
    match kind.text()? {
        "user" => {
            section.check(&USER, &[]);
            Some(Credentials::User)
        }
        "master-user" => {
            section.check(&MASTER_USER, &[]);
            master(section).map(Credentials::Master)
        }
        // The other keys belong to that kind: nothing to say about them.
        later @ "master-password" => kind.later(format!("\"{later}\"")),
        other => kind.fail(format!("\"{other}\" is neither \"user\" nor \"master-user\"")),
    }
}

fn master(section: &Section<'_>) -> Option<MasterUser> {
    let separator = section.or("separator", None, |entry| separator(entry).map(Some));
    let user = section.require("user", "\"master\"").and_then(|entry| match (entry.text()?, separator) {
        (name, _) if !is_name(name) => entry.fail("is no user name: too long, or with control characters"),
        (name, Some(Some(separator))) if name.contains(separator) => {
            entry.fail(format!("\"{name}\" has the separator `{separator}` in it: the server would split it there"))
        }
        (name, _) => Some(name.to_owned()),
    });
    let password = section.require("password_file", "\"/etc/mailferry/master.secret\"").and_then(|entry| {
        let path = entry.path()?;
        entry.parse(|_| scalar::secret(&path))
    });
    let password = password?.expose_secret().as_bytes().to_vec();
    Some(MasterUser { user: user?, separator: separator?, password: Arc::new(password.into()) })
}

/// One character that stands in no ordinary user name: a login whose name has it is taken for a master user's.
fn separator(entry: &Entry<'_>) -> Option<char> {
    let text = entry.text()?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if one.is_ascii_punctuation() && !"@.-_".contains(one) => Some(one),
        _ => entry.fail(format!("\"{text}\" is no separator such as \"*\": one character that stands in no user name")),
    }
}
