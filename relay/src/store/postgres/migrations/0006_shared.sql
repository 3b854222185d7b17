-- Several workers may work at once, but none beside one that believes to be alone.
ALTER TABLE worker ADD COLUMN shared boolean NOT NULL DEFAULT false;
