-- Who carries the mailboxes of the Shared namespace for everybody, and how many they were when they were last seen.
CREATE TABLE carried (
    user      TEXT    PRIMARY KEY REFERENCES users (user) ON DELETE CASCADE,
    mailboxes INTEGER NOT NULL
) STRICT;
