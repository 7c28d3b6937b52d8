-- Keys that sign the certificates of ssh hosts, at most one in each state. Whoever reads a private one can pose as any
-- server of the fleet: this database is as private as they are.
CREATE TABLE ssh_authority (
    fingerprint TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    private_key TEXT NOT NULL,
    -- 'active' signs. 'next' will, and 'last' did: people are told to trust all three.
    state TEXT NOT NULL UNIQUE CHECK (state IN ('active', 'next', 'last')),
    created_at BIGINT NOT NULL
);
