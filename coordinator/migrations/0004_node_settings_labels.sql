-- JSON: what a node does differently from the fleet; missing keys are as the fleet's.
ALTER TABLE node ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
-- JSON: what an operator says of a node, and what a container wants of the node it is placed on.
ALTER TABLE node ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE container ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
