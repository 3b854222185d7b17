-- The state as version 1 has it. Keys are 16-byte hashes; times are microseconds of our clock; documents are the relay's.
-- Room is left in the pages of rows that change often, so that a new version stands beside the old one and no index
-- has to follow.
CREATE TABLE entity(id bigint PRIMARY KEY, ver bigint NOT NULL, doc bytea NOT NULL) WITH (fillfactor = 70);
CREATE TABLE member(key bytea PRIMARY KEY, entity bigint NOT NULL);
CREATE TABLE claim(key bytea PRIMARY KEY, entity bigint NOT NULL);
CREATE TABLE hint(key bytea NOT NULL, entity bigint NOT NULL, PRIMARY KEY(key, entity));
CREATE INDEX hint_of ON hint(entity);
CREATE TABLE change(id bytea PRIMARY KEY, at bigint NOT NULL);
CREATE TABLE work(target int NOT NULL, entity bigint NOT NULL, due bigint NOT NULL, attempts bigint NOT NULL,
  owner bigint NOT NULL, until bigint NOT NULL, PRIMARY KEY(target, entity)) WITH (fillfactor = 70);
CREATE TABLE position(part bigint PRIMARY KEY, off bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE counter(name smallint PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE sum(link int NOT NULL, target int NOT NULL, what smallint NOT NULL, n bigint NOT NULL,
  PRIMARY KEY(link, target, what)) WITH (fillfactor = 50);
CREATE TABLE name(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL UNIQUE);
CREATE TABLE meta(key text PRIMARY KEY, value text NOT NULL);

CREATE TABLE dead_letter(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, entity bigint NOT NULL, target int NOT NULL,
  at bigint NOT NULL, code text NOT NULL, message bytea NOT NULL, fields text NOT NULL,
  state text NOT NULL DEFAULT 'open', closed bigint NOT NULL DEFAULT 0);
CREATE INDEX dead_letter_open ON dead_letter(state, id);
CREATE INDEX dead_letter_of ON dead_letter(entity, id);

CREATE TABLE question(id bigint PRIMARY KEY, entity bigint NOT NULL, tenant text NOT NULL, link text NOT NULL,
  kind text NOT NULL, subject text NOT NULL, since bigint NOT NULL, ended bigint, by text, choice text);
CREATE INDEX question_open ON question(id) WHERE ended IS NULL;
CREATE INDEX question_ended ON question(ended) WHERE ended IS NOT NULL;
CREATE INDEX question_of ON question(entity);
CREATE TABLE decision(n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, entity bigint NOT NULL,
  field text NOT NULL, rule text NOT NULL, ruling text NOT NULL, edit_by int NOT NULL, edit_lo bigint NOT NULL,
  edit_hi bigint NOT NULL, force_by int NOT NULL, force_lo bigint NOT NULL, force_hi bigint NOT NULL,
  author text NOT NULL, change bytea, value bytea NOT NULL);
CREATE INDEX decision_of ON decision(entity, n);

CREATE TABLE going(n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, link text NOT NULL, at bigint NOT NULL);
CREATE TABLE size(link text PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE tombstone(key bytea PRIMARY KEY, at bigint NOT NULL);

-- One partition for each day, made with the first row of that day and dropped as a whole.
CREATE TABLE outcome(accepted bigint NOT NULL, change bytea NOT NULL, target int NOT NULL, link int NOT NULL,
  entity bigint NOT NULL, previous bigint NOT NULL, kind smallint NOT NULL, at bigint NOT NULL, took bigint NOT NULL,
  PRIMARY KEY(accepted, change, target)) PARTITION BY RANGE (accepted);
CREATE TABLE audit(id bigint GENERATED ALWAYS AS IDENTITY, at bigint NOT NULL, who text NOT NULL, what text NOT NULL,
  subject text NOT NULL, before bytea, after bytea, PRIMARY KEY(at, id)) PARTITION BY RANGE (at);
CREATE INDEX audit_number ON audit(id);
-- The partitions there are, and until when their last row may matter.
CREATE TABLE day(of text NOT NULL, day bigint NOT NULL, last bigint NOT NULL, PRIMARY KEY(of, day));
