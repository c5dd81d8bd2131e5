-- POP3. pop3: what was proved of the old side's POP3 list: which templates give its UIDLs (a JSON array), for all messages
-- with UIDs below proved_below. follows_uid: the list is known to be in the order of the UIDs, so new messages come last.
CREATE TABLE pop3 (
    user            TEXT PRIMARY KEY REFERENCES users (user) ON DELETE CASCADE,
    uid_validity    INTEGER NOT NULL,
    templates       TEXT NOT NULL,
    proved_below    INTEGER NOT NULL,
    follows_uid     INTEGER NOT NULL
) STRICT;

-- The POP3 order that each message of INBOX was given on the target; those without one have none there.
CREATE TABLE pop3_orders (
    user            TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    uid_validity    INTEGER NOT NULL,
    uid             INTEGER NOT NULL,
    pop3_order      INTEGER NOT NULL,
    PRIMARY KEY (user, uid_validity, uid)
) STRICT, WITHOUT ROWID;
