CREATE TABLE users (
    user            TEXT PRIMARY KEY,
    login_name      TEXT NOT NULL,
    phase           TEXT NOT NULL,
    authority       TEXT NOT NULL CHECK (authority IN ('old', 'new')),
    epoch           INTEGER NOT NULL,
    reason          TEXT,
    mailboxes       INTEGER NOT NULL DEFAULT 0,
    messages_total  INTEGER NOT NULL DEFAULT 0,
    messages_done   INTEGER NOT NULL DEFAULT 0,
    bytes_done      INTEGER NOT NULL DEFAULT 0,
    clean_at        INTEGER,
    lease_owner     TEXT,
    lease_until     INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX users_by_phase ON users (phase);

CREATE TABLE reports (
    id              INTEGER PRIMARY KEY,
    user            TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    at              INTEGER NOT NULL,
    identical       INTEGER NOT NULL,
    differences     INTEGER NOT NULL,
    altered         INTEGER NOT NULL,
    notes           INTEGER NOT NULL,
    json            TEXT NOT NULL
) STRICT;

CREATE INDEX reports_by_user ON reports (user, id);

CREATE TABLE history (
    id              INTEGER PRIMARY KEY,
    user            TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    at              INTEGER NOT NULL,
    from_phase      TEXT NOT NULL,
    to_phase        TEXT NOT NULL,
    authority       TEXT NOT NULL,
    epoch           INTEGER NOT NULL,
    cause           TEXT NOT NULL,
    report          INTEGER REFERENCES reports (id)
) STRICT;

CREATE INDEX history_by_user ON history (user, id);

-- name: a JSON array of the hierarchy parts. old_seen, new_seen: what STATUS said of each side when the two were last
-- proved equal; a mailbox whose two sides still say the same needs no work.
CREATE TABLE mailboxes (
    user            TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    guid            TEXT NOT NULL,
    uid_validity    INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    old_seen        TEXT,
    new_seen        TEXT,
    PRIMARY KEY (user, name)
) STRICT;
