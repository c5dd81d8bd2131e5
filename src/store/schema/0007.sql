-- POP3 UIDLs that no template gives: which message of INBOX each is, found on the messages themselves.
CREATE TABLE pop3_uidls (
    user            TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    uid_validity    INTEGER NOT NULL,
    uid             INTEGER NOT NULL,
    uidl            TEXT NOT NULL,
    PRIMARY KEY (user, uid_validity, uid)
) STRICT, WITHOUT ROWID;
