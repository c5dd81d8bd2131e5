-- What our connections to the old side have received for a user, on the last day on which they have received anything.
CREATE TABLE old_octets (
    user   TEXT    NOT NULL PRIMARY KEY,
    day    INTEGER NOT NULL,
    octets INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
