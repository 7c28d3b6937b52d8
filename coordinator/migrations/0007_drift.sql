-- What was changed on the instance behind our back, as its node last said: a JSON list of lines.
ALTER TABLE placement ADD COLUMN drift TEXT NOT NULL DEFAULT '[]';
-- What the order may do beyond its content, until it is carried out: JSON, empty for nothing.
ALTER TABLE placement ADD COLUMN licence TEXT NOT NULL DEFAULT '';
