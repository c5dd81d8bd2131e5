-- Messages that the old side can't give and that are left out on the new side, where the configuration wants that.
CREATE TABLE quarantine (
    user         TEXT    NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    uid_validity INTEGER NOT NULL,
    uid          INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (user, name, uid_validity, uid)
) STRICT, WITHOUT ROWID;
