-- What happened to each record, found along a chain that starts in its document; and how often a change came again.
CREATE TABLE trail(at bigint NOT NULL, entity bigint NOT NULL, previous bigint NOT NULL, happened bytea NOT NULL,
  PRIMARY KEY(at, entity)) PARTITION BY RANGE (at);
ALTER TABLE change ADD COLUMN again int NOT NULL DEFAULT 0;
