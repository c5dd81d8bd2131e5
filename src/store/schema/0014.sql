-- Accounts that are merged with mail of the new side's own: what came from us, message by message.
-- A mailbox of the old side, by name and UIDVALIDITY, and where its mail went. The GUIDs of its messages derive from the seed, which is
-- known before the first is written; one that was renamed or re-created has a row for each until its mail is taken away.
CREATE TABLE merged_mailboxes (
    user         TEXT    NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    seed         TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    uid_validity INTEGER NOT NULL,
    -- The mailbox on the new side: its UIDVALIDITY once it is known, and whether we made it.
    target_uid_validity INTEGER,
    made         INTEGER NOT NULL,
    PRIMARY KEY (user, seed)
) STRICT, WITHOUT ROWID;
-- Which message of the new side is which one of the old side. `ours`: we wrote it; else it was there before and is only not doubled.
-- Flags and keywords are those of the old side that the new side was last given.
CREATE TABLE pairs (
    user       TEXT    NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    seed       TEXT    NOT NULL,
    uid        INTEGER NOT NULL,
    target_uid INTEGER NOT NULL,
    ours       INTEGER NOT NULL,
    flags      INTEGER NOT NULL,
    keywords   TEXT    NOT NULL,
    PRIMARY KEY (user, seed, uid)
) STRICT, WITHOUT ROWID;
-- Subscriptions on the new side that came from us.
CREATE TABLE merged_subscriptions (
    user TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (user, name)
) STRICT, WITHOUT ROWID;
