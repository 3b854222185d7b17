-- Where subscriptions stand: places in the stream and counts, written whole by whoever serves them.
CREATE TABLE subscription(name text PRIMARY KEY, memo bytea NOT NULL);
