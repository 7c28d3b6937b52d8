-- The node's own addresses, as it last said: JSON. No container may reach them.
ALTER TABLE node ADD COLUMN addresses TEXT NOT NULL DEFAULT '[]';

-- Whose container may open connections to whose. Gone with either, so that a name that is given again opens nothing.
CREATE TABLE allowance (
    container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    from_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    PRIMARY KEY (container_id, from_id)
);
CREATE INDEX allowance_from ON allowance (from_id);
