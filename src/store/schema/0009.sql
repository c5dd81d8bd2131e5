-- Sieve scripts that we put on the new side, by the digest of what they say: only these are ours to replace or delete there.
CREATE TABLE scripts (
    user   TEXT NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    name   TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (user, name, digest)
) STRICT, WITHOUT ROWID;
