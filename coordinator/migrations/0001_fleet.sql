-- One text for SQLite and Postgres 15. Times are unix milliseconds; JSON is TEXT that only our own types read.

CREATE TABLE fleet (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    fleet_id TEXT NOT NULL,
    access_revision BIGINT NOT NULL
);

-- The authority on who leads, and the row every write locks first.
CREATE TABLE lease (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    holder TEXT NOT NULL,
    term BIGINT NOT NULL,
    rev BIGINT NOT NULL
);
INSERT INTO lease (one, holder, term, rev) VALUES (1, '', 0, 0);

CREATE TABLE node (
    name TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    policy TEXT NOT NULL CHECK (policy IN ('active', 'cordoned', 'draining', 'retired')),
    -- What the node last said of itself; NULL until its first report.
    cidr TEXT,
    gateway TEXT,
    boot_id TEXT,
    capacity TEXT,
    images TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE container (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    image_alias TEXT NOT NULL,
    keys TEXT NOT NULL,
    -- 1: the user asked for this node and no other.
    pinned BIGINT NOT NULL,
    request_id TEXT NOT NULL UNIQUE,
    request_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE placement (
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
    -- The fleet's access revision that this placement's accounts came with.
    access_revision BIGINT NOT NULL,
    -- The power request that made this generation; empty for others.
    request_id TEXT NOT NULL,
    PRIMARY KEY (container_id, node)
);
-- I1: at most one placement of a container is wanted anywhere.
CREATE UNIQUE INDEX placement_wanted_once ON placement (container_id) WHERE desired <> 'absent';
-- An address is free again only when the row is gone (I7).
CREATE UNIQUE INDEX placement_address ON placement (node, address);

CREATE TABLE event (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX event_subject ON event (subject, id);
