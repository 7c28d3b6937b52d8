-- 1: a delete is refused until an operator takes the protection away.
ALTER TABLE container ADD COLUMN protected BIGINT NOT NULL DEFAULT 0;
