-- What parts beside the engine keep: where subscriptions stand, subscriptions that were made over the API, replays.
CREATE TABLE kept(shelf smallint NOT NULL, name text NOT NULL, value bytea NOT NULL, PRIMARY KEY(shelf, name));
INSERT INTO kept(shelf,name,value) SELECT 1,name,memo FROM subscription;
DROP TABLE subscription;
