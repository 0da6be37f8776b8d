-- What the first trials in the field asked of the schema; schema.sql has the whole.

-- Broadcasts: a state for those that wait for their time, what makes a repeated command find them, errors by cause.
ALTER TABLE broadcast DROP CONSTRAINT broadcast_state_check;
ALTER TABLE broadcast
    ADD COLUMN key text, ADD COLUMN key_hash bytea, ADD COLUMN fingerprint bytea, ADD COLUMN loader uuid,
    ADD COLUMN refusal text,
    ADD CONSTRAINT broadcast_state_check
        CHECK (state IN ('draft', 'scheduled', 'running', 'paused', 'done', 'cancelled', 'undoing', 'undone'));
DROP INDEX broadcast_active;
CREATE INDEX broadcast_active ON broadcast (bot_id) WHERE state IN ('scheduled', 'running', 'undoing');
DROP INDEX broadcast_unended;
CREATE INDEX broadcast_unended ON broadcast (bot_id) WHERE state IN ('draft', 'scheduled', 'running', 'paused');
CREATE INDEX broadcast_of_group ON broadcast (group_id) WHERE group_id IS NOT NULL;
CREATE UNIQUE INDEX broadcast_key ON broadcast (bot_id, key) WHERE key IS NOT NULL;
CREATE INDEX broadcast_fingerprint ON broadcast (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX broadcast_loading ON broadcast (loader) WHERE loader IS NOT NULL;
CREATE INDEX delivery_error ON delivery (broadcast_id, outcome) WHERE error IS NOT NULL;
UPDATE broadcast SET state = 'scheduled', started_at = NULL WHERE state = 'running' AND starts_at > now();

-- Which database this is: a restored copy sends nothing by itself.
CREATE TABLE installation (
    one          boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
    id           uuid    NOT NULL DEFAULT gen_random_uuid(),
    generation   uuid    NOT NULL DEFAULT gen_random_uuid(),
    generations  uuid[]  NOT NULL DEFAULT '{}',
    progress     bigint  NOT NULL DEFAULT 0,
    cluster_id   text,
    database_oid bigint,
    timeline     text
);

-- Where the chat ids of a list are may be a guess: somebody has to look before anything is sent.
ALTER TABLE broadcast ADD COLUMN guess text;

-- The name that recipients see, and whether a video can be played before all of it has come.
ALTER TABLE media ADD COLUMN sent_name text;
UPDATE media SET sent_name = name WHERE name IS NOT NULL AND file_id IS NOT NULL;
ALTER TABLE blob ADD COLUMN streamable boolean;
