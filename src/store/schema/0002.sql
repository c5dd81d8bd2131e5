-- slow_pauses: pauses in a row that ran out while the user was being switched. switched_at: when the authority moved last.
ALTER TABLE users ADD COLUMN slow_pauses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN switched_at INTEGER;
