-- Snapshots that we were told to make or to remove, with how far that is. What was made on a node by hand has no row.
CREATE TABLE snapshot (
    container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    -- 1: the container's schedule made it, and removes it.
    scheduled BIGINT NOT NULL,
    -- Grows with every one of a container: no clock is asked which is older.
    seq BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    -- When its state began.
    since BIGINT NOT NULL,
    PRIMARY KEY (container_id, name)
);
-- At most one of a container is being made or removed.
CREATE UNIQUE INDEX snapshot_under_way ON snapshot (container_id) WHERE state <> 'ready';

-- 'hourly', 'daily', 'weekly'; empty: none is made by itself.
ALTER TABLE container ADD COLUMN snapshot_every TEXT NOT NULL DEFAULT '';
ALTER TABLE container ADD COLUMN snapshot_keep BIGINT NOT NULL DEFAULT 7;
-- When the last one was begun by the schedule; 0: none was.
ALTER TABLE container ADD COLUMN snapshotted_at BIGINT NOT NULL DEFAULT 0;
