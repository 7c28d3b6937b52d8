-- What a create gets that names no image; empty: what the coordinator was started with.
ALTER TABLE fleet ADD COLUMN default_image TEXT NOT NULL DEFAULT '';
