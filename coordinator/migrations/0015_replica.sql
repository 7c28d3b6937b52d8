-- 'replica': a second copy on another node, refreshed again and again. 'superseded': what was the home before a failover;
-- it stays, stopped, until an operator discards it. SQLite cannot change a check, so the table is made anew.
CREATE TABLE placement_new (
    container_id TEXT NOT NULL REFERENCES container (id),
    node TEXT NOT NULL REFERENCES node (name),
    desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'absent')),
    generation BIGINT NOT NULL,
    spec TEXT NOT NULL,
    cpu_millis BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    disk_bytes BIGINT NOT NULL,
    address TEXT NOT NULL,
    observed TEXT NOT NULL,
    observed_generation BIGINT NOT NULL,
    ever_ran BIGINT NOT NULL,
    access_revision BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'home'
        CHECK (role IN ('home', 'arriving', 'leaving', 'replica', 'superseded')),
    -- arriving, replica: how many passes of the copy there must have been.
    copy_pass BIGINT NOT NULL DEFAULT 0,
    drift TEXT NOT NULL DEFAULT '[]',
    licence TEXT NOT NULL DEFAULT '',
    origin TEXT NOT NULL DEFAULT '',
    undo TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (container_id, node)
);
INSERT INTO placement_new (container_id, node, desired, generation, spec, cpu_millis, memory_bytes, disk_bytes, address,
    observed, observed_generation, ever_ran, access_revision, request_id, role, copy_pass, drift, licence, origin, undo)
    SELECT container_id, node, desired, generation, spec, cpu_millis, memory_bytes, disk_bytes, address,
        observed, observed_generation, ever_ran, access_revision, request_id, role, copy_pass, drift, licence, origin, undo
    FROM placement;
DROP TABLE placement;
ALTER TABLE placement_new RENAME TO placement;
-- I1: at most one home that is wanted, and at most one replica.
CREATE UNIQUE INDEX placement_wanted_once ON placement (container_id) WHERE desired <> 'absent' AND role = 'home';
CREATE UNIQUE INDEX placement_replica_once ON placement (container_id) WHERE role = 'replica';
-- An address is free again only when the row is gone (I7).
CREATE UNIQUE INDEX placement_address ON placement (node, address);

-- How often the replica is refreshed; 0: there is to be none.
ALTER TABLE container ADD COLUMN replicate_seconds BIGINT NOT NULL DEFAULT 0;
-- Where it is to be; empty: anywhere.
ALTER TABLE container ADD COLUMN replicate_to TEXT NOT NULL DEFAULT '';
-- The newest pass that is whole, whoever has it; 0: there was none, and no snapshot of one is left.
ALTER TABLE container ADD COLUMN replica_pass BIGINT NOT NULL DEFAULT 0;
-- When that pass was ordered: the replica holds what there was then, or a little later. 0: the replica holds nothing yet.
ALTER TABLE container ADD COLUMN replica_as_of BIGINT NOT NULL DEFAULT 0;
-- When the pass under way was ordered.
ALTER TABLE container ADD COLUMN replica_began BIGINT NOT NULL DEFAULT 0;
-- Why it is not refreshed; empty: it is.
ALTER TABLE container ADD COLUMN replica_problem TEXT NOT NULL DEFAULT '';
