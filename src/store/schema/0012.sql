-- How the UIDL of a message was found, where no template tells. What was found before is as good as what was found by its text.
ALTER TABLE pop3_uidls ADD COLUMN method TEXT NOT NULL DEFAULT 'text';
