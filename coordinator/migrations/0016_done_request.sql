-- Requests whose change was made, so that a late copy of one, read from a socket after something else was asked for, does
-- not make it again.
CREATE TABLE done_request (
    request_id TEXT NOT NULL PRIMARY KEY,
    container_id TEXT NOT NULL,
    done_at BIGINT NOT NULL
);
CREATE INDEX done_request_done_at ON done_request (done_at);
