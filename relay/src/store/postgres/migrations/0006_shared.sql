-- Several workers may work at once, but none beside one that believes to be alone.
ALTER TABLE worker ADD COLUMN shared boolean NOT NULL DEFAULT false;
-- What is open, where several workers add to it: by where it is due, who is to act, and whether a person has to decide.
-- One that is alone counts it in the documents; so it counts only while meta says so.
CREATE TABLE open_sum(link int NOT NULL, target int NOT NULL, at int NOT NULL, held boolean NOT NULL, n bigint NOT NULL,
  PRIMARY KEY(link, target, at, held)) WITH (fillfactor = 50);
