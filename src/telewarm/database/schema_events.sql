-- The declared schema, second part: what happened, for whoever listens to events.

-- What happened is appended here in the transaction in which it happens, so that nothing is told that did not happen
-- and nothing that happened goes untold. Nothing in it is a secret.
CREATE TABLE event_news (
    id     bigint      GENERATED ALWAYS AS IDENTITY,  -- of two changes of one row the later one has the higher id
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    type   text        NOT NULL,
    bot_id bigint,
    bot    text,                                -- its slug, where it is told of a deleted one too
    size   integer     NOT NULL CHECK (size BETWEEN 1 AND 400),
    facts  json        NOT NULL                 -- an array of as many objects: an event each
);

-- And from here it is read, in the order in which it was committed. Events are numbered without gaps: whoever has seen
-- one knows what comes next, and sees when that is no longer kept.
CREATE TABLE event (
    number bigint      PRIMARY KEY,             -- of the row's last event; the newest row is never trimmed
    at     timestamptz NOT NULL,
    type   text        NOT NULL,
    bot    text,
    size   integer     NOT NULL,
    facts  json        NOT NULL
);

ALTER TABLE event_news SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE event SET (
    autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_cost_delay = 0
);

-- Number what was committed up to now; the number of the newest event, 0 before there is any. Two who do it at once do
-- it one after the other: a row that becomes visible later gets a higher number, however low its id is.
CREATE FUNCTION number_events() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM event_news) THEN
        PERFORM pg_advisory_xact_lock(7316582394107544);
        -- This statement sees all that was committed before the lock was ours. Of a deleted bot nothing is told but that
        -- it was deleted.
        WITH taken AS (
            DELETE FROM event_news RETURNING *
        ), known AS (
            SELECT taken.*, coalesce(taken.bot, bot.slug) AS slug
            FROM taken LEFT JOIN bot ON bot.id = taken.bot_id
            WHERE taken.bot_id IS NULL OR taken.bot IS NOT NULL OR (bot.id IS NOT NULL AND bot.deleted_at IS NULL)
        )
        INSERT INTO event (number, at, type, bot, size, facts)
        SELECT coalesce((SELECT max(number) FROM event), 0) + sum(size) OVER (ORDER BY id), at, type, slug, size, facts
        FROM known;
    END IF;
    RETURN coalesce((SELECT max(number) FROM event), 0);
END $$;

CREATE FUNCTION tell_news() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('telewarm_event', '');
    RETURN NULL;
END $$;

CREATE TRIGGER told AFTER INSERT ON event_news FOR EACH STATEMENT EXECUTE FUNCTION tell_news();

-- What a change of media means: for the counts, and for whoever listens. One row of news has at most 400 events.
-- Its plan is kept for statements of one row and of ten thousand: no nested loop would do for both.
CREATE FUNCTION note_media() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        WITH counted AS (
            INSERT INTO media_change SELECT bot_id, kind, state, count(*) FROM after GROUP BY bot_id, kind, state
        ), listed AS (
            SELECT bot_id, id, kind, state, (row_number() OVER (PARTITION BY bot_id ORDER BY id) - 1) / 400 AS chunk
            FROM after
        )
        INSERT INTO event_news (type, bot_id, size, facts)
        SELECT 'media.added', bot_id, count(*),
               json_agg(json_build_object('media_id', id, 'kind', kind, 'state', state, 'way', NULL, 'error', NULL))
        FROM listed
        GROUP BY bot_id, chunk;
    ELSIF TG_OP = 'DELETE' THEN
        WITH counted AS (
            INSERT INTO media_change SELECT bot_id, kind, state, -count(*) FROM before GROUP BY bot_id, kind, state
        ), listed AS (
            SELECT bot_id, id, kind, (row_number() OVER (PARTITION BY bot_id ORDER BY id) - 1) / 400 AS chunk
            FROM before
        )
        INSERT INTO event_news (type, bot_id, size, facts)
        SELECT 'media.removed', bot_id, count(*),
               json_agg(json_build_object('media_id', id, 'kind', kind, 'state', NULL, 'way', NULL, 'error', NULL))
        FROM listed
        GROUP BY bot_id, chunk;
    ELSE
        WITH moved AS (
            SELECT after.bot_id, after.id, after.kind, after.state, after.way, after.last_error_code,
                   before.kind AS old_kind, before.state AS old_state,
                   CASE WHEN before.state <> after.state THEN 'media.' || after.state
                        WHEN before.name IS DISTINCT FROM after.name THEN 'media.renamed' END AS type
            FROM after JOIN before ON before.id = after.id
            WHERE before.state <> after.state OR before.kind <> after.kind OR before.name IS DISTINCT FROM after.name
        ), counted AS (
            INSERT INTO media_change
            SELECT bot_id, kind, state, sum(items)
            FROM (
                SELECT bot_id, kind, state, 1 AS items FROM moved
                UNION ALL
                SELECT bot_id, old_kind, old_state, -1 FROM moved
            ) AS changed
            GROUP BY bot_id, kind, state
            HAVING sum(items) <> 0
        ), listed AS (
            SELECT moved.*, (row_number() OVER (PARTITION BY bot_id, type ORDER BY id) - 1) / 400 AS chunk
            FROM moved
            WHERE type IS NOT NULL
        )
        INSERT INTO event_news (type, bot_id, size, facts)
        SELECT type, bot_id, count(*),
               json_agg(json_build_object(
                   'media_id', id, 'kind', kind, 'state', state, 'way', CASE state WHEN 'ready' THEN way END,
                   'error', last_error_code
               ))
        FROM listed
        GROUP BY bot_id, type, chunk;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER note_inserted AFTER INSERT ON media REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION note_media();
CREATE TRIGGER note_updated AFTER UPDATE ON media REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION note_media();
CREATE TRIGGER note_deleted AFTER DELETE ON media REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION note_media();

CREATE FUNCTION note_chats() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO event_news (type, bot_id, size, facts)
        SELECT 'chat.changed', bot_id, count(*),
               json_agg(json_build_object('chat_id', chat_id, 'state', state, 'migrated_to', migrated_to))
        FROM (
            SELECT bot_id, chat_id, state, migrated_to,
                   (row_number() OVER (PARTITION BY bot_id ORDER BY chat_id) - 1) / 400 AS chunk
            FROM after
        ) AS listed
        GROUP BY bot_id, chunk;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO event_news (type, bot_id, size, facts)
        SELECT 'chat.changed', bot_id, count(*),
               json_agg(json_build_object('chat_id', chat_id, 'state', NULL, 'migrated_to', NULL))
        FROM (
            SELECT bot_id, chat_id, (row_number() OVER (PARTITION BY bot_id ORDER BY chat_id) - 1) / 400 AS chunk
            FROM before
        ) AS listed
        GROUP BY bot_id, chunk;
    ELSE
        INSERT INTO event_news (type, bot_id, size, facts)
        SELECT 'chat.changed', bot_id, count(*),
               json_agg(json_build_object('chat_id', chat_id, 'state', state, 'migrated_to', migrated_to))
        FROM (
            SELECT after.bot_id, after.chat_id, after.state, after.migrated_to,
                   (row_number() OVER (PARTITION BY after.bot_id ORDER BY after.chat_id) - 1) / 400 AS chunk
            FROM after JOIN before ON before.bot_id = after.bot_id AND before.chat_id = after.chat_id
            WHERE before.state <> after.state OR before.migrated_to IS DISTINCT FROM after.migrated_to
        ) AS listed
        GROUP BY bot_id, chunk;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER note_inserted AFTER INSERT ON chat REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION note_chats();
CREATE TRIGGER note_updated AFTER UPDATE ON chat REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION note_chats();
CREATE TRIGGER note_deleted AFTER DELETE ON chat REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION note_chats();

-- How a broadcast stands, as the API shows it.
CREATE FUNCTION broadcast_facts(of_broadcast broadcast, of_flight flight) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'broadcast_id', of_broadcast.id,
        'state', of_broadcast.state,
        'reason', of_broadcast.reason,
        'recipients', of_broadcast.recipients,
        'done', done,
        'left', of_broadcast.recipients - done,
        'in_flight', coalesce(cardinality(of_flight.in_flight), 0),
        'percent', CASE WHEN of_broadcast.recipients = 0 THEN 0
                        ELSE round(100.0 * done / of_broadcast.recipients, 2) END,
        'rate', round((done / seconds)::numeric, 2),
        'eta_seconds', CASE WHEN of_broadcast.state = 'running' AND done > 0
                            THEN round(((of_broadcast.recipients - done) * seconds / done)::numeric, 1) END,
        'counts', json_build_object(
            'sent', coalesce(of_flight.sent, 0), 'partial', coalesce(of_flight.partial, 0),
            'failed', coalesce(of_flight.failed, 0), 'unreachable', coalesce(of_flight.unreachable, 0),
            'skipped', coalesce(of_flight.skipped, 0), 'unknown', coalesce(of_flight.unknown, 0),
            'undone', coalesce(of_flight.undone, 0)
        ),
        'not_undone', coalesce(of_flight.not_undone, 0)
    )
    FROM (
        SELECT coalesce(
            of_flight.sent + of_flight.partial + of_flight.failed + of_flight.unreachable + of_flight.skipped
            + of_flight.unknown + of_flight.undone, 0
        ) AS done,
        nullif(greatest(0, extract(
            epoch FROM coalesce(of_broadcast.ended_at, clock_timestamp()) - of_broadcast.started_at
        )), 0) AS seconds
    ) AS counted
$$;

CREATE FUNCTION note_broadcast() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    its_flight flight;
BEGIN
    IF TG_OP = 'DELETE' THEN
        OLD.state = 'deleted';
        NEW = OLD;
    END IF;
    SELECT * INTO its_flight FROM flight WHERE broadcast_id = NEW.id;
    INSERT INTO event_news (type, bot_id, size, facts)
    VALUES ('broadcast.changed', NEW.bot_id, 1, json_build_array(broadcast_facts(NEW, its_flight)));
    RETURN NULL;
END $$;

CREATE TRIGGER note_made AFTER INSERT OR DELETE ON broadcast FOR EACH ROW EXECUTE FUNCTION note_broadcast();
CREATE TRIGGER note_changed AFTER UPDATE OF state, reason, starts_at ON broadcast FOR EACH ROW
    WHEN ((OLD.state, OLD.reason, OLD.starts_at) IS DISTINCT FROM (NEW.state, NEW.reason, NEW.starts_at))
    EXECUTE FUNCTION note_broadcast();

CREATE FUNCTION note_progress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_news (type, bot_id, size, facts)
    SELECT 'broadcast.progress', broadcast.bot_id, 1, json_build_array(broadcast_facts(broadcast, NEW))
    FROM broadcast
    WHERE id = NEW.broadcast_id;
    RETURN NULL;
END $$;

CREATE TRIGGER note_told AFTER UPDATE OF told_at ON flight FOR EACH ROW
    WHEN (OLD.told_at IS DISTINCT FROM NEW.told_at) EXECUTE FUNCTION note_progress();

CREATE FUNCTION note_bot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_news (type, bot_id, bot, size, facts)
    VALUES ('bot.changed', NEW.id, NEW.slug, 1, json_build_array(json_build_object(
        'change', TG_ARGV[0], 'username', NEW.username, 'paused', NEW.paused_at IS NOT NULL, 'chat_id', NULL,
        'flood_until', CASE WHEN NEW.paused_until > now() THEN NEW.paused_until END
    )));
    RETURN NULL;
END $$;

CREATE TRIGGER note_created AFTER INSERT ON bot FOR EACH ROW EXECUTE FUNCTION note_bot('created');
CREATE TRIGGER note_deleted AFTER UPDATE OF deleted_at ON bot FOR EACH ROW
    WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION note_bot('deleted');
CREATE TRIGGER note_undeleted AFTER UPDATE OF deleted_at ON bot FOR EACH ROW
    WHEN (OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL) EXECUTE FUNCTION note_bot('undeleted');
CREATE TRIGGER note_purged AFTER UPDATE OF purged_at ON bot FOR EACH ROW
    WHEN (OLD.purged_at IS NULL AND NEW.purged_at IS NOT NULL) EXECUTE FUNCTION note_bot('purged');
-- Whoever replaces a token says whose it is, the same bot's too; tokens that are sealed with another key stay the same.
CREATE TRIGGER note_token AFTER UPDATE OF telegram_id ON bot FOR EACH ROW EXECUTE FUNCTION note_bot('token');
CREATE TRIGGER note_renamed AFTER UPDATE OF username ON bot FOR EACH ROW
    WHEN (OLD.username IS DISTINCT FROM NEW.username) EXECUTE FUNCTION note_bot('username');
CREATE TRIGGER note_chats AFTER UPDATE OF warmup_chats ON bot FOR EACH ROW
    WHEN (OLD.warmup_chats IS DISTINCT FROM NEW.warmup_chats) EXECUTE FUNCTION note_bot('chats');
CREATE TRIGGER note_paused AFTER UPDATE OF paused_at ON bot FOR EACH ROW
    WHEN (OLD.paused_at IS NULL AND NEW.paused_at IS NOT NULL) EXECUTE FUNCTION note_bot('paused');
CREATE TRIGGER note_resumed AFTER UPDATE OF paused_at ON bot FOR EACH ROW
    WHEN (OLD.paused_at IS NOT NULL AND NEW.paused_at IS NULL) EXECUTE FUNCTION note_bot('resumed');
CREATE TRIGGER note_flood AFTER UPDATE OF paused_until ON bot FOR EACH ROW
    WHEN (NEW.paused_until > coalesce(OLD.paused_until, '-infinity')) EXECUTE FUNCTION note_bot('flood_wait');

CREATE FUNCTION note_flood_wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_news (type, bot_id, size, facts)
    SELECT 'bot.changed', id, 1, json_build_array(json_build_object(
        'change', 'flood_wait', 'username', username, 'paused', paused_at IS NOT NULL, 'chat_id', NEW.chat_id,
        'flood_until', NEW.until
    ))
    FROM bot
    WHERE id = NEW.bot_id;
    RETURN NULL;
END $$;

CREATE TRIGGER note_flood AFTER INSERT OR UPDATE ON flood_wait FOR EACH ROW EXECUTE FUNCTION note_flood_wait();

-- A worker says how it stands with its process's lease. One whose process died says nothing more: the lease ran out.
CREATE FUNCTION note_worker() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    state text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        state = CASE WHEN OLD.expires_at < now() THEN 'gone' ELSE 'stopped' END;
        NEW = OLD;
        NEW.worker = OLD.worker || jsonb_build_object('state', state, 'lanes', 0, 'in_flight', 0, 'held', 0);
    END IF;
    INSERT INTO event_news (type, size, facts)
    VALUES ('worker.status', 1, json_build_array(
        jsonb_build_object('worker', NEW.id, 'process', NEW.holder) || NEW.worker
    ));
    RETURN NULL;
END $$;

CREATE TRIGGER note_begun AFTER INSERT ON lease FOR EACH ROW
    WHEN (NEW.worker IS NOT NULL) EXECUTE FUNCTION note_worker();
CREATE TRIGGER note_said AFTER UPDATE OF worker ON lease FOR EACH ROW
    WHEN (OLD.worker IS DISTINCT FROM NEW.worker) EXECUTE FUNCTION note_worker();
CREATE TRIGGER note_ended AFTER DELETE ON lease FOR EACH ROW
    WHEN (OLD.worker ->> 'state' <> 'stopped') EXECUTE FUNCTION note_worker();
