-- With whom a user shares mailboxes on the old side, and how many with each.
CREATE TABLE shared_with (
    user      TEXT    NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    who       TEXT    NOT NULL,
    mailboxes INTEGER NOT NULL,
    PRIMARY KEY (user, who)
) STRICT, WITHOUT ROWID;
