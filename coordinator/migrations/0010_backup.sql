-- Backups outlive their container and their node. 'writing': not there yet; 'removing': being removed, whole or not.
CREATE TABLE backup (
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    -- Who writes it, or wrote it; empty: it was found in the store.
    node TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('writing', 'kept', 'removing')),
    -- JSON: what lies in the store beside it, but for size and checksum.
    facts TEXT NOT NULL,
    -- JSON: size and checksum; empty until it is kept.
    data TEXT NOT NULL,
    request_id TEXT NOT NULL,
    -- removing: why; empty: it was asked for.
    reason TEXT NOT NULL,
    PRIMARY KEY (owner, id)
);
-- One at a time of each user.
CREATE UNIQUE INDEX backup_writing_once ON backup (owner) WHERE phase = 'writing';

-- JSON: the backup that its data must come from; empty: none.
ALTER TABLE placement ADD COLUMN origin TEXT NOT NULL DEFAULT '';
-- JSON: while a restore replaces what is there, the origin of what is there; else empty.
ALTER TABLE placement ADD COLUMN undo TEXT NOT NULL DEFAULT '';
