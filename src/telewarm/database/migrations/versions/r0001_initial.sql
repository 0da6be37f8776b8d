-- The initial schema. Indexes and storage parameters stand beside their table; events and their triggers at the end.

CREATE TABLE bot (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug          text        NOT NULL UNIQUE CHECK (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    telegram_id   bigint      NOT NULL UNIQUE,  -- the digits before the token's colon: file ids belong to it
    username      text,
    token_sealed  bytea       NOT NULL,
    warmup_chats  bigint[]    NOT NULL,
    paused_until  timestamptz,                  -- a flood wait of the whole bot, for every process
    created_at    timestamptz NOT NULL DEFAULT now(),
    paused_at     timestamptz,                  -- a person paused its background work
    learned       jsonb       NOT NULL DEFAULT '{}',  -- messages a window that Telegram lets pass: bot, private, group
    deleted_at    timestamptz,                  -- soft-deleted; it can be restored
    purged_at     timestamptz,                  -- being deleted for good
    CHECK (purged_at IS NULL OR deleted_at IS NOT NULL)
);

-- Flood waits of single chats that are not over: every process obeys them.
CREATE TABLE flood_wait (
    bot_id  bigint      NOT NULL REFERENCES bot (id) ON DELETE CASCADE,
    chat_id bigint      NOT NULL,
    until   timestamptz NOT NULL,
    PRIMARY KEY (bot_id, chat_id)
);

CREATE TABLE blob (
    sha256        text        PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    bytes         bigint      NOT NULL CHECK (bytes > 0),
    mime          text        NOT NULL,
    ext           text        NOT NULL,
    width         integer,
    height        integer,
    duration      double precision,             -- seconds
    video_codec   text,
    audio_codec   text,
    title         text,
    performer     text,
    storage_key   text        NOT NULL,
    thumbnail_key text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    thumbnail_bytes integer,                    -- goes up with the file: equal totals are spaced by Telegram
    streamable    boolean                       -- of an MP4: its index comes first; null: not looked at
);

-- Tombstones of blobs that a deleted media item had, and of objects without a blob: the garbage collector deletes the
-- objects once nothing refers to them. A tombstone stays for a while after that, so that an upload of the same bytes at
-- that very moment notices.
CREATE TABLE blob_tombstone (
    sha256        text        PRIMARY KEY,
    storage_key   text        NOT NULL,
    thumbnail_key text,
    since         timestamptz NOT NULL DEFAULT now(),
    collected_at  timestamptz                   -- the objects are gone
);

CREATE INDEX blob_tombstone_pending ON blob_tombstone (since) WHERE collected_at IS NULL;

CREATE INDEX blob_tombstone_collected ON blob_tombstone (collected_at) WHERE collected_at IS NOT NULL;

-- Leases of processes on rows. A process renews its lease; an expired one is deleted, and its rows are free again.
CREATE TABLE lease (
    id         uuid        PRIMARY KEY,
    holder     text        NOT NULL,            -- host and process, for people
    expires_at timestamptz NOT NULL,
    worker     jsonb                            -- last reported status of its worker; null: it never had one
);

-- One media item: a blob as a kind in one bot's library. This row is also its place in the warm-up queue:
--   due      = warming, no lease, no next_attempt_at
--   waiting  = warming, no lease, next_attempt_at in the future (a back-off)
--   leased   = warming, with a lease
CREATE TABLE media (
    id                bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot_id            bigint      NOT NULL REFERENCES bot (id),
    sha256            text        NOT NULL REFERENCES blob (sha256),
    kind              text        NOT NULL,
    name              text,                     -- the file name that recipients see
    state             text        NOT NULL CHECK (state IN ('cold', 'warming', 'ready', 'error')),
    priority          bigint      NOT NULL DEFAULT 0,  -- lower goes first: when it was asked for, in ms, and an offset
    attempts          integer     NOT NULL DEFAULT 0,
    next_attempt_at   timestamptz,
    lease_id          uuid,
    queued_at         timestamptz,              -- when a warm-up was last asked for
    file_id           text,
    file_unique_id    text,
    sent_kind         text,                     -- the kind that Telegram returned: send with its method
    way               text,
    warmup_chat       bigint,
    warmup_message_id bigint,
    warmed_at         timestamptz,
    last_error_code   text,
    last_error        text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    sent_name         text,                     -- `name` in the message that the file id came from: recipients see it
    UNIQUE (sha256, kind, bot_id),              -- in this order it also finds who else has a blob
    CHECK (kind IN ('photo', 'video', 'audio', 'document', 'voice', 'animation', 'video_note', 'sticker')),
    CHECK (state <> 'ready' OR (file_id IS NOT NULL AND sent_kind IS NOT NULL))
);

-- The claim: due media of a bot in order, however many wait behind them.
CREATE INDEX media_due ON media (bot_id, priority, id)
    WHERE state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NULL;

CREATE INDEX media_waiting ON media (bot_id, next_attempt_at)
    WHERE state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NOT NULL;

CREATE INDEX media_leased ON media (lease_id) WHERE lease_id IS NOT NULL;

-- The library, page by page.
CREATE INDEX media_library ON media (bot_id, id);

-- Failed media: few, and read as a whole.
CREATE INDEX media_failed ON media (bot_id, id) WHERE state = 'error';

-- Every warm-up updates its row three times: vacuum early and without delay.
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

CREATE TABLE media_count_delta (
    bot_id bigint NOT NULL,
    kind   text   NOT NULL,
    state  text   NOT NULL,
    items  bigint NOT NULL
);

ALTER TABLE media_count_delta SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);

-- Chat statuses: chats that a bot could not reach, and groups that became supergroups. Written by every send.
CREATE TABLE chat (
    bot_id      bigint      NOT NULL REFERENCES bot (id) ON DELETE CASCADE,
    chat_id     bigint      NOT NULL,
    state       text        NOT NULL,
    reason      text        NOT NULL,           -- Telegram's description
    migrated_to bigint,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, chat_id),
    CHECK (state IN (
        'reachable', 'blocked', 'deactivated', 'kicked', 'not_member', 'not_found', 'deleted', 'migrated'
    )),
    CHECK ((state = 'migrated') = (migrated_to IS NOT NULL))
);

-- Sends that carry an idempotency key: the first one's result answers the next.
CREATE TABLE idempotency_key (
    bot_id      bigint      NOT NULL REFERENCES bot (id) ON DELETE CASCADE,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,           -- of the request: another message with the same key is refused
    lease_id    uuid,                           -- the process that sends it now; when it died, the result is unknown
    result      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, key)
);

CREATE INDEX idempotency_key_age ON idempotency_key (created_at);

CREATE TABLE broadcast (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot_id      bigint      NOT NULL REFERENCES bot (id),
    group_id    bigint,                         -- the first of those that were made together, for several bots
    name        text,
    message     jsonb       NOT NULL,           -- a message set
    media       bigint[]    NOT NULL,           -- its media items; with `gate` it waits until all are ready
    state       text        NOT NULL DEFAULT 'draft',
    reason      text,                           -- why it is paused, when no person did it
    gate        boolean     NOT NULL DEFAULT true,
    per_second  double precision CHECK (per_second > 0),
    recipients  bigint      NOT NULL DEFAULT 0,
    duplicates  bigint      NOT NULL DEFAULT 0,
    rejected    bigint      NOT NULL DEFAULT 0,
    starts_at   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    ended_at    timestamptz,
    key         text,                           -- the idempotency key that its creation was asked for with
    key_hash    bytea,                          -- of what was asked for with that key
    fingerprint bytea,                          -- of bots, message and recipients, when it was sent as a whole
    loader      uuid,                           -- the lease of the process that loads a draft to send it as a whole
    refusal     text,                           -- Telegram's description that paused it; it pauses only once
    guess       text,                           -- why its list needs confirmation before the start; null once confirmed
    CHECK (state IN ('draft', 'scheduled', 'running', 'paused', 'done', 'cancelled', 'undoing', 'undone'))
);

CREATE INDEX broadcast_of_bot ON broadcast (bot_id, id);

CREATE INDEX broadcast_active ON broadcast (bot_id) WHERE state IN ('scheduled', 'running', 'undoing');

-- Broadcasts that still need their media.
CREATE INDEX broadcast_unfinished ON broadcast (bot_id) WHERE state IN ('draft', 'scheduled', 'running', 'paused');

CREATE INDEX broadcast_of_group ON broadcast (group_id) WHERE group_id IS NOT NULL;

CREATE UNIQUE INDEX broadcast_key ON broadcast (bot_id, key) WHERE key IS NOT NULL;

CREATE INDEX broadcast_fingerprint ON broadcast (fingerprint) WHERE fingerprint IS NOT NULL;

CREATE INDEX broadcast_loading ON broadcast (loader) WHERE loader IS NOT NULL;

-- Recipients; read in key order, never changed. No foreign key: it would be checked for each of a million rows.
CREATE TABLE recipient (
    broadcast_id bigint NOT NULL,
    chat_id      bigint NOT NULL,
    PRIMARY KEY (broadcast_id, chat_id)
);

-- Rows of a list that hold no chat id.
CREATE TABLE rejected (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    broadcast_id bigint NOT NULL,
    line         bigint NOT NULL,               -- from 1, in the list that was sent
    reason       text   NOT NULL,
    excerpt      text   NOT NULL
);

CREATE INDEX rejected_of_broadcast ON rejected (broadcast_id, id);

-- The run of a broadcast: the one row that its lane writes. A chat is put into `in_flight` before it is called
-- and leaves it together with its outcome, so a crash leaves just these unknown.
CREATE TABLE broadcast_run (
    broadcast_id bigint   PRIMARY KEY REFERENCES broadcast (id) ON DELETE CASCADE,
    lease_id     uuid,                          -- the process that runs it now
    cursor       bigint,                        -- the last recipient that was read
    in_flight    bigint[] NOT NULL DEFAULT '{}',
    retry_chat_ids        bigint[] NOT NULL DEFAULT '{}',  -- admitted, certainly not sent: a flood wait, an outage
    sent         bigint   NOT NULL DEFAULT 0,
    partial      bigint   NOT NULL DEFAULT 0,
    failed       bigint   NOT NULL DEFAULT 0,
    unreachable  bigint   NOT NULL DEFAULT 0,
    skipped      bigint   NOT NULL DEFAULT 0,
    unknown      bigint   NOT NULL DEFAULT 0,
    undone       bigint   NOT NULL DEFAULT 0,
    not_undone   bigint   NOT NULL DEFAULT 0,
    undo_cursor  bigint,                        -- the last delivery whose messages were deleted, or could not be
    notified_at      timestamptz                    -- when an event last reported its progress
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

-- Outcome of each recipient: written once, in key order; `unknown` and undone ones may change.
CREATE TABLE delivery (
    broadcast_id bigint      NOT NULL,
    chat_id      bigint      NOT NULL,
    outcome      text        NOT NULL,
    message_ids  bigint[]    NOT NULL DEFAULT '{}',
    error        text,
    moved_to     bigint,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (broadcast_id, chat_id),
    CHECK (outcome IN ('sent', 'partial', 'failed', 'unreachable', 'skipped', 'unknown', 'undone'))
);

-- Errors of a broadcast's deliveries, for the summary by cause.
CREATE INDEX delivery_error ON delivery (broadcast_id, outcome) WHERE error IS NOT NULL;

-- Identity and progress of this database: a restored copy differs in one of them. At most one row.
CREATE TABLE installation (
    one          boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
    id           uuid    NOT NULL DEFAULT gen_random_uuid(),
    generation   uuid    NOT NULL DEFAULT gen_random_uuid(),  -- new after each restore that was noticed
    generations  uuid[]  NOT NULL DEFAULT '{}',               -- the earlier ones
    progress     bigint  NOT NULL DEFAULT 0,                  -- goes up while broadcasts are sent or changed
    cluster_id   text,                          -- the server's system identifier; null: not readable for our role
    database_oid bigint,
    timeline     text                           -- goes up when a replica is promoted, or a backup is recovered
);

-- API tokens: names and hashes.
CREATE TABLE api_token (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    role         text        NOT NULL CHECK (role IN ('read', 'operate', 'admin')),
    hash         bytea       NOT NULL UNIQUE,   -- SHA-256 of the token
    old_hash     bytea,                         -- of the one before the last rotation
    old_until    timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CHECK ((old_hash IS NULL) = (old_until IS NULL))
);

-- A name is free again once its token is revoked.
CREATE UNIQUE INDEX api_token_name ON api_token (name) WHERE revoked_at IS NULL;

-- Audit log of changes through the API, in the order of time.
CREATE TABLE audit (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text,                            -- the token's name; null: wrong tokens from one address
    role       text,
    action     text        NOT NULL,            -- method and route
    target     text        NOT NULL,            -- path
    status     integer     NOT NULL,
    request_id text,
    address    text
);

-- Events: what happened, for whoever subscribes to it.

-- Outbox: events are appended in the transaction of the change, so that there is an event exactly when the change was
-- committed. No column holds a secret.
CREATE TABLE event_outbox (
    id     bigint      GENERATED ALWAYS AS IDENTITY,  -- of two changes of one row the later one has the higher id
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    type   text        NOT NULL,
    bot_id bigint,
    bot    text,                                -- the slug, for events that are published for deleted bots too
    size   integer     NOT NULL CHECK (size BETWEEN 1 AND 400),
    facts  json        NOT NULL                 -- an array of as many objects: an event each
);

-- Published events, in the order in which they were committed, numbered without gaps: a subscriber knows the number of
-- the next event, and notices when it is no longer kept.
CREATE TABLE event (
    number bigint      PRIMARY KEY,             -- of the row's last event; the newest row is never trimmed
    at     timestamptz NOT NULL,
    type   text        NOT NULL,
    bot    text,
    size   integer     NOT NULL,
    facts  json        NOT NULL
);

ALTER TABLE event_outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE event SET (
    autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_cost_delay = 0
);

-- Publish and number what was committed up to now; returns the number of the newest event, 0 before there is any.
-- Concurrent calls take turns: a row that becomes visible later gets a higher number, however low its id is.
CREATE FUNCTION sequence_events() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM event_outbox) THEN
        PERFORM pg_advisory_xact_lock(7316582394107544);
        -- This statement sees all that was committed before the lock was acquired. The only event of a deleted bot is
        -- its deletion.
        WITH taken AS (
            DELETE FROM event_outbox RETURNING *
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

CREATE FUNCTION notify_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('telewarm_event', '');
    RETURN NULL;
END $$;

CREATE TRIGGER notify AFTER INSERT ON event_outbox FOR EACH STATEMENT EXECUTE FUNCTION notify_outbox();

-- Count deltas and events of changed media; a row of the outbox has at most 400 events. The plan is cached for
-- statements of one row and of ten thousand: no nested loop would do for both.
CREATE FUNCTION emit_media_event() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        WITH counted AS (
            INSERT INTO media_count_delta SELECT bot_id, kind, state, count(*) FROM after GROUP BY bot_id, kind, state
        ), listed AS (
            SELECT bot_id, id, kind, state, (row_number() OVER (PARTITION BY bot_id ORDER BY id) - 1) / 400 AS chunk
            FROM after
        )
        INSERT INTO event_outbox (type, bot_id, size, facts)
        SELECT 'media.added', bot_id, count(*),
               json_agg(json_build_object('media_id', id, 'kind', kind, 'state', state, 'way', NULL, 'error', NULL))
        FROM listed
        GROUP BY bot_id, chunk;
    ELSIF TG_OP = 'DELETE' THEN
        WITH counted AS (
            INSERT INTO media_count_delta SELECT bot_id, kind, state, -count(*) FROM before GROUP BY bot_id, kind, state
        ), listed AS (
            SELECT bot_id, id, kind, (row_number() OVER (PARTITION BY bot_id ORDER BY id) - 1) / 400 AS chunk
            FROM before
        )
        INSERT INTO event_outbox (type, bot_id, size, facts)
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
            INSERT INTO media_count_delta
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
        INSERT INTO event_outbox (type, bot_id, size, facts)
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

CREATE TRIGGER emit_inserted AFTER INSERT ON media REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION emit_media_event();
CREATE TRIGGER emit_updated AFTER UPDATE ON media REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION emit_media_event();
CREATE TRIGGER emit_deleted AFTER DELETE ON media REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION emit_media_event();

CREATE FUNCTION emit_chat_event() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO event_outbox (type, bot_id, size, facts)
        SELECT 'chat.changed', bot_id, count(*),
               json_agg(json_build_object('chat_id', chat_id, 'state', state, 'migrated_to', migrated_to))
        FROM (
            SELECT bot_id, chat_id, state, migrated_to,
                   (row_number() OVER (PARTITION BY bot_id ORDER BY chat_id) - 1) / 400 AS chunk
            FROM after
        ) AS listed
        GROUP BY bot_id, chunk;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO event_outbox (type, bot_id, size, facts)
        SELECT 'chat.changed', bot_id, count(*),
               json_agg(json_build_object('chat_id', chat_id, 'state', NULL, 'migrated_to', NULL))
        FROM (
            SELECT bot_id, chat_id, (row_number() OVER (PARTITION BY bot_id ORDER BY chat_id) - 1) / 400 AS chunk
            FROM before
        ) AS listed
        GROUP BY bot_id, chunk;
    ELSE
        INSERT INTO event_outbox (type, bot_id, size, facts)
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

CREATE TRIGGER emit_inserted AFTER INSERT ON chat REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION emit_chat_event();
CREATE TRIGGER emit_updated AFTER UPDATE ON chat REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION emit_chat_event();
CREATE TRIGGER emit_deleted AFTER DELETE ON chat REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION emit_chat_event();

-- The progress of a broadcast, as the API shows it.
CREATE FUNCTION broadcast_facts(of_broadcast broadcast, of_run broadcast_run) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'broadcast_id', of_broadcast.id,
        'state', of_broadcast.state,
        'reason', of_broadcast.reason,
        'recipients', of_broadcast.recipients,
        'done', done,
        'left', of_broadcast.recipients - done,
        'in_flight', coalesce(cardinality(of_run.in_flight), 0),
        'percent', CASE WHEN of_broadcast.recipients = 0 THEN 0
                        ELSE round(100.0 * done / of_broadcast.recipients, 2) END,
        'rate', round((done / seconds)::numeric, 2),
        'eta_seconds', CASE WHEN of_broadcast.state = 'running' AND done > 0
                            THEN round(((of_broadcast.recipients - done) * seconds / done)::numeric, 1) END,
        'counts', json_build_object(
            'sent', coalesce(of_run.sent, 0), 'partial', coalesce(of_run.partial, 0),
            'failed', coalesce(of_run.failed, 0), 'unreachable', coalesce(of_run.unreachable, 0),
            'skipped', coalesce(of_run.skipped, 0), 'unknown', coalesce(of_run.unknown, 0),
            'undone', coalesce(of_run.undone, 0)
        ),
        'not_undone', coalesce(of_run.not_undone, 0)
    )
    FROM (
        SELECT coalesce(
            of_run.sent + of_run.partial + of_run.failed + of_run.unreachable + of_run.skipped
            + of_run.unknown + of_run.undone, 0
        ) AS done,
        nullif(greatest(0, extract(
            epoch FROM coalesce(of_broadcast.ended_at, clock_timestamp()) - of_broadcast.started_at
        )), 0) AS seconds
    ) AS counted
$$;

CREATE FUNCTION emit_broadcast_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    its_run broadcast_run;
BEGIN
    IF TG_OP = 'DELETE' THEN
        OLD.state = 'deleted';
        NEW = OLD;
    END IF;
    SELECT * INTO its_run FROM broadcast_run WHERE broadcast_id = NEW.id;
    INSERT INTO event_outbox (type, bot_id, size, facts)
    VALUES ('broadcast.changed', NEW.bot_id, 1, json_build_array(broadcast_facts(NEW, its_run)));
    RETURN NULL;
END $$;

CREATE TRIGGER emit_created AFTER INSERT OR DELETE ON broadcast FOR EACH ROW EXECUTE FUNCTION emit_broadcast_event();
CREATE TRIGGER emit_changed AFTER UPDATE OF state, reason, starts_at ON broadcast FOR EACH ROW
    WHEN ((OLD.state, OLD.reason, OLD.starts_at) IS DISTINCT FROM (NEW.state, NEW.reason, NEW.starts_at))
    EXECUTE FUNCTION emit_broadcast_event();

CREATE FUNCTION emit_progress_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_outbox (type, bot_id, size, facts)
    SELECT 'broadcast.progress', broadcast.bot_id, 1, json_build_array(broadcast_facts(broadcast, NEW))
    FROM broadcast
    WHERE id = NEW.broadcast_id;
    RETURN NULL;
END $$;

CREATE TRIGGER emit_notified AFTER UPDATE OF notified_at ON broadcast_run FOR EACH ROW
    WHEN (OLD.notified_at IS DISTINCT FROM NEW.notified_at) EXECUTE FUNCTION emit_progress_event();

CREATE FUNCTION emit_bot_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_outbox (type, bot_id, bot, size, facts)
    VALUES ('bot.changed', NEW.id, NEW.slug, 1, json_build_array(json_build_object(
        'change', TG_ARGV[0], 'username', NEW.username, 'paused', NEW.paused_at IS NOT NULL, 'chat_id', NULL,
        'flood_until', CASE WHEN NEW.paused_until > now() THEN NEW.paused_until END
    )));
    RETURN NULL;
END $$;

CREATE TRIGGER emit_created AFTER INSERT ON bot FOR EACH ROW EXECUTE FUNCTION emit_bot_event('created');
CREATE TRIGGER emit_deleted AFTER UPDATE OF deleted_at ON bot FOR EACH ROW
    WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION emit_bot_event('deleted');
CREATE TRIGGER emit_undeleted AFTER UPDATE OF deleted_at ON bot FOR EACH ROW
    WHEN (OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL) EXECUTE FUNCTION emit_bot_event('undeleted');
CREATE TRIGGER emit_purged AFTER UPDATE OF purged_at ON bot FOR EACH ROW
    WHEN (OLD.purged_at IS NULL AND NEW.purged_at IS NOT NULL) EXECUTE FUNCTION emit_bot_event('purged');
-- Replacing a token writes `telegram_id`, also with the same value; encrypting tokens with another key does not.
CREATE TRIGGER emit_token AFTER UPDATE OF telegram_id ON bot FOR EACH ROW EXECUTE FUNCTION emit_bot_event('token');
CREATE TRIGGER emit_renamed AFTER UPDATE OF username ON bot FOR EACH ROW
    WHEN (OLD.username IS DISTINCT FROM NEW.username) EXECUTE FUNCTION emit_bot_event('username');
CREATE TRIGGER emit_chats AFTER UPDATE OF warmup_chats ON bot FOR EACH ROW
    WHEN (OLD.warmup_chats IS DISTINCT FROM NEW.warmup_chats) EXECUTE FUNCTION emit_bot_event('chats');
CREATE TRIGGER emit_paused AFTER UPDATE OF paused_at ON bot FOR EACH ROW
    WHEN (OLD.paused_at IS NULL AND NEW.paused_at IS NOT NULL) EXECUTE FUNCTION emit_bot_event('paused');
CREATE TRIGGER emit_resumed AFTER UPDATE OF paused_at ON bot FOR EACH ROW
    WHEN (OLD.paused_at IS NOT NULL AND NEW.paused_at IS NULL) EXECUTE FUNCTION emit_bot_event('resumed');
CREATE TRIGGER emit_flood AFTER UPDATE OF paused_until ON bot FOR EACH ROW
    WHEN (NEW.paused_until > coalesce(OLD.paused_until, '-infinity')) EXECUTE FUNCTION emit_bot_event('flood_wait');

CREATE FUNCTION emit_flood_wait_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_outbox (type, bot_id, size, facts)
    SELECT 'bot.changed', id, 1, json_build_array(json_build_object(
        'change', 'flood_wait', 'username', username, 'paused', paused_at IS NOT NULL, 'chat_id', NEW.chat_id,
        'flood_until', NEW.until
    ))
    FROM bot
    WHERE id = NEW.bot_id;
    RETURN NULL;
END $$;

CREATE TRIGGER emit_flood AFTER INSERT OR UPDATE ON flood_wait FOR EACH ROW EXECUTE FUNCTION emit_flood_wait_event();

-- A worker reports its status with the lease of its process; when the process died, the expired lease is deleted.
CREATE FUNCTION emit_worker_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    state text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        state = CASE WHEN OLD.expires_at < now() THEN 'gone' ELSE 'stopped' END;
        NEW = OLD;
        NEW.worker = OLD.worker || jsonb_build_object('state', state, 'lanes', 0, 'in_flight', 0, 'held', 0);
    END IF;
    INSERT INTO event_outbox (type, size, facts)
    VALUES ('worker.status', 1, json_build_array(
        jsonb_build_object('worker', NEW.id, 'process', NEW.holder) || NEW.worker
    ));
    RETURN NULL;
END $$;

CREATE TRIGGER emit_started AFTER INSERT ON lease FOR EACH ROW
    WHEN (NEW.worker IS NOT NULL) EXECUTE FUNCTION emit_worker_event();
CREATE TRIGGER emit_reported AFTER UPDATE OF worker ON lease FOR EACH ROW
    WHEN (OLD.worker IS DISTINCT FROM NEW.worker) EXECUTE FUNCTION emit_worker_event();
CREATE TRIGGER emit_ended AFTER DELETE ON lease FOR EACH ROW
    WHEN (OLD.worker ->> 'state' <> 'stopped') EXECUTE FUNCTION emit_worker_event();
