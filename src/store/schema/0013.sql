-- Users whose account on the new side is no whole copy of the old one: a filter left something out (partial).
CREATE TABLE marks (
    user TEXT    PRIMARY KEY REFERENCES users (user) ON DELETE CASCADE,
    kind TEXT    NOT NULL,
    how  TEXT    NOT NULL,
    at   INTEGER NOT NULL
) STRICT;
