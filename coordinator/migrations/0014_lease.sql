-- Where the leader serves, for those who follow it; empty when nobody leads.
ALTER TABLE lease ADD COLUMN address TEXT NOT NULL DEFAULT '';
-- Counted up by a leader that has nothing to write: who sees it rest for a lease's time may try for the next term.
ALTER TABLE lease ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;
-- The latest write that was committed, so that one whose answer was lost can be found out about.
ALTER TABLE lease ADD COLUMN last_write TEXT NOT NULL DEFAULT '';
