-- Users whose own password the new side has refused: a master user can read and write their mail there, but after a switch
-- they could not log in.
CREATE TABLE locked_out (
    user   TEXT PRIMARY KEY REFERENCES users (user) ON DELETE CASCADE,
    reason TEXT NOT NULL
) STRICT;
