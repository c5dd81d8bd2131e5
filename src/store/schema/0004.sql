-- Late arrivals: messages that reached the old side after a switch (DESIGN §2, I3).
-- fences: the old side's mailboxes as the last look before the switch saw them; what has this UID or a higher one came late.
-- swept: everything late below this UID is on the new side. appeared: the mailbox itself came after the switch.
CREATE TABLE fences (
    user            TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    uid_validity    INTEGER NOT NULL,
    uid_next        INTEGER NOT NULL,
    swept           INTEGER NOT NULL,
    appeared        INTEGER NOT NULL,
    PRIMARY KEY (user, name, uid_validity)
) STRICT;

-- One line for each late message. octets, exact, altered: its body, once it was read. date: INTERNALDATE. new_*: where it is to go, with
-- the UIDNEXT that this mailbox had before. sent_at: when the line end that makes an APPEND count was sent, if its answer has
-- not been seen: only then it is unknown whether the message is there. new_uid: where it is, if the server told.
CREATE TABLE late (
    user             TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    name             TEXT NOT NULL,
    uid_validity     INTEGER NOT NULL,
    uid              INTEGER NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('pending', 'done')),
    octets           INTEGER,
    exact            BLOB,
    altered          BLOB,
    date             INTEGER,
    new_mailbox      TEXT,
    new_uid_validity INTEGER,
    new_uid_next     INTEGER,
    sent_at          INTEGER,
    new_uid          INTEGER,
    at               INTEGER NOT NULL,
    PRIMARY KEY (user, name, uid_validity, uid)
) STRICT;
