-- reason: more about a transition than its cause.
ALTER TABLE history ADD COLUMN reason TEXT;

-- What operators have said of users who have not begun to move: the newest rule that is about a user decides. share: hundredths
-- of a percent of all users, by a hash of their names.
CREATE TABLE enrolment (
    id              INTEGER PRIMARY KEY,
    verdict         TEXT NOT NULL CHECK (verdict IN ('enroll', 'hold')),
    kind            TEXT NOT NULL CHECK (kind IN ('user', 'domain', 'share', 'all')),
    name            TEXT,
    share           INTEGER
) STRICT;
