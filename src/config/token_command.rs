//! `token_command` of `credentials`: what gives the tokens that log in at a side.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::raw::Section;
use crate::wire::sasl::Bearer;

/// A command that prints a token. Its arguments may be secret, so they are not in its `Debug`.
#[derive(Clone)]
pub struct TokenCommand {
    /// How the token is sent.
    pub mechanism: Bearer,
    /// The program, an absolute path.
    pub program: PathBuf,
    arguments: Vec<Vec<Piece>>,
}

/// A part of an argument.
#[derive(Clone)]
enum Piece {
    Text(String),
    /// `%u`: the user's name at that side.
    User,
}

impl fmt::Debug for TokenCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCommand")
            .field("mechanism", &self.mechanism)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl TokenCommand {
    /// A program and its arguments, in which `%u` stands for the user and `%%` for `%`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(mechanism: Bearer, words: &[&str]) -> Result<Self, String> {
        let [program, arguments @ ..] = words else { return Err("names no program".to_owned()) };
        if !program.starts_with('/') {
            return Err(format!("\"{program}\" is no absolute path: no shell looks for it"));
        }
        let arguments = arguments.iter().map(|argument| pieces(argument)).collect::<Result<_, String>>()?;
        Ok(Self { mechanism, program: PathBuf::from(program), arguments })
    }

    /// Whether each user's token is their own; else one is good for all.
    #[must_use]
    pub fn is_for_each_user(&self) -> bool {
        self.arguments.iter().flatten().any(|piece| matches!(piece, Piece::User))
    }

    /// The arguments for a user; none if the name, which comes from outside, would make one of them an option.
    #[must_use]
    pub fn arguments(&self, user: &str) -> Option<Vec<String>> {
        let argument = |pieces: &Vec<Piece>| match pieces.first() {
            Some(Piece::User) if user.starts_with('-') => None,
            _ => Some(pieces.iter().map(|piece| piece.filled(user)).collect::<String>()),
        };
        self.arguments.iter().map(argument).collect()
    }
}

impl Piece {
    fn filled<'a>(&'a self, user: &'a str) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::User => user,
        }
    }
}

fn pieces(argument: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = argument;
    while let Some((before, after)) = rest.split_once('%') {
        pieces.push(Piece::Text(before.to_owned()));
        (rest, _) = match (after.strip_prefix('u'), after.strip_prefix('%')) {
            (Some(rest), _) => (rest, pieces.push(Piece::User)),
            (_, Some(rest)) => (rest, pieces.push(Piece::Text("%".to_owned()))),
            _ => return Err(format!("\"{argument}\" has a % that is neither %u, the user's name there, nor %%")),
        };
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    Ok(pieces)
}

/// Reads `token_command`.
pub(super) fn token_command(section: &Section<'_>, mechanism: Bearer) -> Option<TokenCommand> {
    let entry = section.require("token_command", "[\"/usr/local/bin/mail-token\", \"%u\"]")?;
    let words: Option<Vec<&str>> = entry.list()?.iter().map(|word| word.text()).collect();
    let command = match TokenCommand::new(mechanism, &words?) {
        Ok(command) => command,
        Err(why) => return entry.fail(why),
    };
    let program = command.program.display();
    match std::fs::metadata(&command.program) {
        Err(error) => entry.fail(format!("can't run {program}: {error}")),
        Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
            entry.fail(format!("can't run {program}: it is no executable file"))
        }
        Ok(_) => Some(command),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn command(arguments: &[&str]) -> TokenCommand {
        let words: Vec<&str> = std::iter::once("/bin/true").chain(arguments.iter().copied()).collect();
        TokenCommand::new(Bearer::XOAuth2, &words).unwrap()
    }

    #[test]
    fn arguments_are_filled_in_and_never_split() {
        let each = command(&["--for=%u;x", "%u", "100%%", "a b", "%%u"]);
        assert!(each.is_for_each_user());
        assert_eq!(each.arguments("an na").unwrap(), ["--for=an na;x", "an na", "100%", "a b", "%u"]);
        assert!(each.arguments("-x").is_none() && command(&["--for=%u"]).arguments("-x").is_some());
        let all = command(&["%%u"]);
        assert!(!all.is_for_each_user() && !format!("{all:?}").contains("%u"));
    }

    #[test]
    fn what_is_no_command() {
        for (words, why) in [
            (&[][..], "names no program"),
            (&["token"], "no absolute path"),
            (&["/bin/true", "%n"], "neither %u"),
            (&["/bin/true", "%"], "neither %u"),
        ] {
            assert!(TokenCommand::new(Bearer::XOAuth2, words).unwrap_err().contains(why), "{words:?}");
        }
    }
}
