-- A container that moves has a placement on both nodes. Only its home is wanted; 'arriving' is a copy in the making,
-- 'leaving' one that is kept, stopped, until the new home has answered.
ALTER TABLE placement ADD COLUMN role TEXT NOT NULL DEFAULT 'home' CHECK (role IN ('home', 'arriving', 'leaving'));
-- arriving: how many passes of the copy there must have been.
ALTER TABLE placement ADD COLUMN copy_pass BIGINT NOT NULL DEFAULT 0;

-- I1, with moves: at most one home that is wanted.
DROP INDEX placement_wanted_once;
CREATE UNIQUE INDEX placement_wanted_once ON placement (container_id) WHERE desired <> 'absent' AND role = 'home';

-- The newest generation of its placements that are gone: a node that held one remembers it (I4).
ALTER TABLE container ADD COLUMN generation_floor BIGINT NOT NULL DEFAULT 0;

-- The journal of moves under way; a row goes when both nodes are clean.
CREATE TABLE move (
    container_id TEXT PRIMARY KEY REFERENCES container (id),
    source TEXT NOT NULL REFERENCES node (name),
    target TEXT NOT NULL REFERENCES node (name),
    phase TEXT NOT NULL CHECK (phase IN ('copying', 'stopping', 'finishing', 'starting', 'cleaning', 'cancelling')),
    -- What it was, and will be on the target: 'running' or 'stopped'.
    resume TEXT NOT NULL,
    request_id TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- When it was told to stop, and when it answered again; 0 before.
    stopped_at BIGINT NOT NULL,
    answered_at BIGINT NOT NULL,
    -- cancelling: why.
    reason TEXT NOT NULL
);

-- draining: how many containers leave at a time.
ALTER TABLE node ADD COLUMN drain_parallel BIGINT NOT NULL DEFAULT 2;
