-- Who else may use a container: a JSON list of users with their keys and whether they may become root. The keys are the
-- users' own, copied here whenever they change, so that what an order holds is all in one row.
ALTER TABLE container ADD COLUMN guests TEXT NOT NULL DEFAULT '[]';

-- What the nodes' logs tell of logins, tries and bans. A line of a log is one row, however often it is read.
CREATE TABLE audit (
    node TEXT NOT NULL,
    place TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    username TEXT NOT NULL,
    client_address TEXT NOT NULL,
    client_port BIGINT NOT NULL,
    key_fingerprint TEXT NOT NULL,
    -- JSON: names of containers.
    containers TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (node, place)
);
CREATE INDEX audit_at ON audit (at, node, place);
CREATE INDEX audit_username ON audit (username, at);

-- How far each node's logs have been read; written with what was read.
CREATE TABLE audit_cursor (
    node TEXT PRIMARY KEY,
    place TEXT NOT NULL
);
