//! The header of a message in a form that no server changes: fields unfolded, blanks counted once, without those that servers
//! write into messages themselves.

/// Octets of a field's name that are looked at: longer than any name that matters.
const NAME_MAX: usize = 40;

/// Fields that servers write, change and take out, in lower case (old servers reference §9).
const VOLATILE: [&[u8]; 12] = [
    b"content-length",
    b"lines",
    b"return-path",
    b"status",
    b"x-imap",
    b"x-imapbase",
    b"x-keywords",
    b"x-message-flag",
    b"x-status",
    b"x-uid",
    b"x-uidl",
    b"x-yahoo-newman-property",
];

/// How the names of more such fields begin.
const VOLATILE_START: &[u8] = b"x-mozilla-";

/// Fields that tell one message from another, whatever was added to its header on the way.
const IDENTITY: [&[u8]; 4] = [b"date", b"from", b"message-id", b"subject"];

/// Fewer of them tell nothing.
const IDENTITY_MIN: usize = 2;

/// Computes the digests of a header from pieces of its lines.
#[derive(Debug, Default)]
pub(super) struct HeaderHasher {
    fields: blake3::Hasher,
    identity: blake3::Hasher,
    /// Fields that went into it.
    telling: usize,
    /// The name of the field, in lower case, until it is known.
    name: Vec<u8>,
    field: Field,
    /// Something of this line has come.
    line_begun: bool,
    /// Blanks that count only if something follows.
    blank: bool,
    /// Something of the field's value has come.
    value_begun: bool,
}

/// What is done with the rest of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    /// There is none yet.
    #[default]
    None,
    /// Its name is being read.
    Name,
    /// It is left out.
    Dropped,
    Kept,
    /// It is kept, and tells who the message is.
    Identity,
}

impl HeaderHasher {
    /// Takes octets of a line, without its end.
    pub(super) fn octets(&mut self, octets: &[u8]) {
        let is_blank = |octet: u8| matches!(octet, b' ' | b'\t');
        let mut rest = octets;
        while let Some(&octet) = rest.first() {
            let folded = is_blank(octet) && self.field != Field::None;
            if !std::mem::replace(&mut self.line_begun, true) && !folded {
                self.begin();
            }
            let taken = if is_blank(octet) {
                self.blank = true;
                1
            } else if self.field == Field::Name {
                self.named(octet);
                1
            } else {
                let run = rest.iter().position(|&octet| is_blank(octet)).unwrap_or(rest.len());
                self.text(rest.get(..run).unwrap_or_default());
                run
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// The line has ended.
    pub(super) fn line_end(&mut self) {
        self.line_begun = false;
        self.blank = true;
    }

    fn begin(&mut self) {
        self.end();
        (self.field, self.blank, self.value_begun) = (Field::Name, false, true);
    }

    fn named(&mut self, octet: u8) {
        if octet == b':' {
            self.decide(true);
        } else if self.name.len() == NAME_MAX || self.blank {
            // This is no field.
            self.decide(false);
            self.text(&[octet]);
        } else {
            self.name.push(octet.to_ascii_lowercase());
        }
    }

    fn decide(&mut self, is_field: bool) {
        let name = std::mem::take(&mut self.name);
        let volatile = VOLATILE.contains(&name.as_slice()) || name.starts_with(VOLATILE_START);
        self.field = match is_field {
            true if volatile => Field::Dropped,
            true if IDENTITY.contains(&name.as_slice()) => Field::Identity,
            _ => Field::Kept,
        };
        self.telling += usize::from(self.field == Field::Identity);
        self.put(&name);
        if is_field {
            self.put(b":");
            self.value_begun = false;
        }
    }

    fn text(&mut self, text: &[u8]) {
        // Blanks before the value don't count.
        if std::mem::take(&mut self.blank) & std::mem::replace(&mut self.value_begun, true) {
            self.put(b" ");
        }
        self.put(text);
    }

    fn put(&mut self, octets: &[u8]) {
        if matches!(self.field, Field::Kept | Field::Identity) {
            self.fields.update(octets);
        }
        if self.field == Field::Identity {
            self.identity.update(octets);
        }
    }

    /// The field that was being read is complete.
    fn end(&mut self) {
        if self.field == Field::Name {
            self.decide(false);
        }
        self.put(b"\n");
        self.field = Field::None;
    }

    /// The digests of all fields, and of those that tell who the message is: none if hardly any do.
    pub(super) fn finish(&mut self) -> ([u8; 32], Option<[u8; 32]>) {
        self.end();
        let identity = (self.telling >= IDENTITY_MIN).then(|| *self.identity.finalize().as_bytes());
        (*self.fields.finalize().as_bytes(), identity)
    }
}
