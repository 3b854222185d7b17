-- The work of an entity is read and changed together with it.
ALTER TABLE work DROP CONSTRAINT work_pkey, ADD PRIMARY KEY(entity, target);
