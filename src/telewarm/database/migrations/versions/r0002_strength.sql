-- Flood waits and learned rates kept with the bot; the queue ordered by a deadline; counts that need no counting.

ALTER TABLE bot ADD COLUMN paused_at timestamptz, ADD COLUMN learned jsonb NOT NULL DEFAULT '{}';

CREATE TABLE flood_wait (
    bot_id  bigint      NOT NULL REFERENCES bot (id) ON DELETE CASCADE,
    chat_id bigint      NOT NULL,
    until   timestamptz NOT NULL,
    PRIMARY KEY (bot_id, chat_id)
);

ALTER TABLE blob ADD COLUMN thumbnail_bytes integer;

ALTER TABLE media ALTER COLUMN priority TYPE bigint;
UPDATE media SET priority = (1000 * extract(epoch FROM coalesce(queued_at, created_at)))::bigint;
ALTER TABLE media DROP CONSTRAINT media_bot_id_sha256_kind_key, ADD UNIQUE (sha256, kind, bot_id);
DROP INDEX media_blob;
DROP INDEX media_ready;
CREATE INDEX media_failed ON media (bot_id, id) WHERE state = 'error';

-- Every warm-up writes its row three times: look for dead rows early, and do not rest while sweeping them up.
ALTER TABLE media SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- How many items each bot has, by kind and state, without counting them: `media_count` plus the changes since it was
-- last brought up to date. Changes are appended, so that writers never wait for each other.
CREATE TABLE media_count (
    bot_id bigint NOT NULL,
    kind   text   NOT NULL,
    state  text   NOT NULL,
    items  bigint NOT NULL,
    PRIMARY KEY (bot_id, kind, state)
);

CREATE TABLE media_change (
    bot_id bigint NOT NULL,
    kind   text   NOT NULL,
    state  text   NOT NULL,
    items  bigint NOT NULL
);

ALTER TABLE media_change SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);

CREATE FUNCTION count_media() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO media_change SELECT bot_id, kind, state, count(*) FROM after GROUP BY bot_id, kind, state;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO media_change SELECT bot_id, kind, state, -count(*) FROM before GROUP BY bot_id, kind, state;
    ELSE
        INSERT INTO media_change
        SELECT bot_id, kind, state, sum(items)
        FROM (
            SELECT bot_id, kind, state, 1 AS items FROM after
            UNION ALL
            SELECT bot_id, kind, state, -1 FROM before
        ) AS moved
        GROUP BY bot_id, kind, state
        HAVING sum(items) <> 0;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_inserted AFTER INSERT ON media REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION count_media();
CREATE TRIGGER count_updated AFTER UPDATE ON media REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION count_media();
CREATE TRIGGER count_deleted AFTER DELETE ON media REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION count_media();

INSERT INTO media_count SELECT bot_id, kind, state, count(*) FROM media GROUP BY bot_id, kind, state;
