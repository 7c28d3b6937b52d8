-- When a container ends by itself. Times are unix milliseconds; 0 is none.
ALTER TABLE container ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
-- When its user is warned; 0 again once that was done.
ALTER TABLE container ADD COLUMN warn_at BIGINT NOT NULL DEFAULT 0;
-- When its end was recorded and it was stopped: nothing is deleted for its age without this.
ALTER TABLE container ADD COLUMN expired_at BIGINT NOT NULL DEFAULT 0;
-- Milliseconds after that which a coordinator lived through while it might have been deleted.
ALTER TABLE container ADD COLUMN graced BIGINT NOT NULL DEFAULT 0;
-- 1: it was said that it is kept, being protected.
ALTER TABLE container ADD COLUMN kept_noted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE container ADD COLUMN idle_stop_seconds BIGINT NOT NULL DEFAULT 0;
