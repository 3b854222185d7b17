-- Workers and what they hold. What names a worker's epoch is its own for as long as the worker's row is there; positions
-- of before belong to nobody. Numbers of entities and of questions are given out in one place.
CREATE TABLE worker(epoch bigint PRIMARY KEY, until bigint NOT NULL);
ALTER TABLE position ALTER COLUMN off DROP NOT NULL;
ALTER TABLE position ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE work DROP CONSTRAINT work_pkey;
ALTER TABLE work ADD PRIMARY KEY(entity, target);
CREATE TABLE number(of text PRIMARY KEY, next bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO number(of,next) SELECT 'entity', coalesce(max(id),0)+1 FROM entity;
INSERT INTO number(of,next) SELECT 'question', coalesce(max(id),0)+1 FROM question;
