-- The declared schema. Migrations arrive at exactly this; a test compares the two.

CREATE TABLE bot (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug          text        NOT NULL UNIQUE CHECK (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    telegram_id   bigint      NOT NULL UNIQUE,  -- the digits before the token's colon: file ids belong to it
    username      text,
    token_sealed  bytea       NOT NULL,
    warmup_chats  bigint[]    NOT NULL,
    paused_until  timestamptz,                  -- a flood wait of the whole bot; every process obeys it
    created_at    timestamptz NOT NULL DEFAULT now(),
    paused_at     timestamptz,                  -- a person paused its background work
    learned       jsonb       NOT NULL DEFAULT '{}',  -- messages a window that Telegram lets pass: bot, private, group
    deleted_at    timestamptz,                  -- found nowhere any more, until somebody brings it back
    purged_at     timestamptz,                  -- being deleted for good: nothing brings it back
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

-- Blobs that a deleted media item had, and objects whose blob is gone: to be collected once nobody needs them. A line
-- stays for a while after that, so that whoever adds the same bytes in that very moment learns of it.
CREATE TABLE orphan (
    sha256        text        PRIMARY KEY,
    storage_key   text        NOT NULL,
    thumbnail_key text,
    since         timestamptz NOT NULL DEFAULT now(),
    collected_at  timestamptz                   -- the objects are gone
);

CREATE INDEX orphan_waiting ON orphan (since) WHERE collected_at IS NULL;

CREATE INDEX orphan_collected ON orphan (collected_at) WHERE collected_at IS NOT NULL;

-- Who holds media rows right now. A holder renews its lease; one that stops is swept away and its rows are free again.
CREATE TABLE lease (
    id         uuid        PRIMARY KEY,
    holder     text        NOT NULL,            -- host and process, for people
    expires_at timestamptz NOT NULL,
    worker     jsonb                            -- what its worker does, as it said last; null: it never had one
);

-- One media item: a blob as a kind in one bot's library. This row is also its place in the warm-up queue:
--   due      = warming, no lease, no next_attempt_at
--   waiting  = warming, no lease, next_attempt_at in the future (a back-off)
--   in hand  = warming, with a lease
CREATE TABLE media (
    id                bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot_id            bigint      NOT NULL REFERENCES bot (id),
    sha256            text        NOT NULL REFERENCES blob (sha256),
    kind              text        NOT NULL,
    name              text,                     -- the file name that recipients see
    state             text        NOT NULL CHECK (state IN ('cold', 'warming', 'ready', 'error')),
    priority          bigint      NOT NULL DEFAULT 0,  -- lower goes first: when it was asked for, in ms, and a handicap
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

CREATE INDEX media_in_hand ON media (lease_id) WHERE lease_id IS NOT NULL;

-- The library, page by page.
CREATE INDEX media_library ON media (bot_id, id);

-- What went wrong: few, and asked for as a whole.
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

-- The chat ledger: whom a bot could not reach, and groups that became supergroups. Fed by every send.
CREATE TABLE chat (
    bot_id      bigint      NOT NULL REFERENCES bot (id) ON DELETE CASCADE,
    chat_id     bigint      NOT NULL,
    state       text        NOT NULL,
    reason      text        NOT NULL,           -- Telegram's words
    migrated_to bigint,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, chat_id),
    CHECK (state IN (
        'reachable', 'blocked', 'deactivated', 'kicked', 'not_member', 'not_found', 'deleted', 'migrated'
    )),
    CHECK ((state = 'migrated') = (migrated_to IS NOT NULL))
);

-- Sends that carry an idempotency key: the first one's result answers the next.
CREATE TABLE sent_once (
    bot_id      bigint      NOT NULL REFERENCES bot (id) ON DELETE CASCADE,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,           -- of what was asked: another message under the same key is refused
    lease_id    uuid,                           -- who sends it now; of a holder that died the result is unknown
    result      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, key)
);

CREATE INDEX sent_once_age ON sent_once (created_at);

CREATE TABLE broadcast (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot_id      bigint      NOT NULL REFERENCES bot (id),
    group_id    bigint,                         -- the first of those that were made together, for several bots
    name        text,
    message     jsonb       NOT NULL,           -- a message set
    media       bigint[]    NOT NULL,           -- its media items: the gate
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
    refusal     text,                           -- Telegram's words that paused it; they pause it only once
    guess       text,                           -- why its list wants a look before the start, until it is confirmed
    CHECK (state IN ('draft', 'scheduled', 'running', 'paused', 'done', 'cancelled', 'undoing', 'undone'))
);

CREATE INDEX broadcast_of_bot ON broadcast (bot_id, id);

CREATE INDEX broadcast_active ON broadcast (bot_id) WHERE state IN ('scheduled', 'running', 'undoing');

-- Those that still need their media.
CREATE INDEX broadcast_unended ON broadcast (bot_id) WHERE state IN ('draft', 'scheduled', 'running', 'paused');

CREATE INDEX broadcast_of_group ON broadcast (group_id) WHERE group_id IS NOT NULL;

CREATE UNIQUE INDEX broadcast_key ON broadcast (bot_id, key) WHERE key IS NOT NULL;

CREATE INDEX broadcast_fingerprint ON broadcast (fingerprint) WHERE fingerprint IS NOT NULL;

CREATE INDEX broadcast_loading ON broadcast (loader) WHERE loader IS NOT NULL;

-- Who is to get it; read in key order, never changed. No foreign key: a million rows would look their parent up.
CREATE TABLE recipient (
    broadcast_id bigint NOT NULL,
    chat_id      bigint NOT NULL,
    PRIMARY KEY (broadcast_id, chat_id)
);

-- Lines of a list that hold no chat id.
CREATE TABLE rejected (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    broadcast_id bigint NOT NULL,
    line         bigint NOT NULL,               -- from 1, in the list that was sent
    reason       text   NOT NULL,
    excerpt      text   NOT NULL
);

CREATE INDEX rejected_of_broadcast ON rejected (broadcast_id, id);

-- How far a broadcast has come: the one row that its lane writes. A chat is put into `in_flight` before it is called
-- and leaves it together with its outcome, so a crash leaves just these unknown.
CREATE TABLE flight (
    broadcast_id bigint   PRIMARY KEY REFERENCES broadcast (id) ON DELETE CASCADE,
    lease_id     uuid,                          -- who works it off now
    cursor       bigint,                        -- the last recipient taken
    in_flight    bigint[] NOT NULL DEFAULT '{}',
    later        bigint[] NOT NULL DEFAULT '{}',  -- taken, certainly not sent: a flood wait, an outage
    sent         bigint   NOT NULL DEFAULT 0,
    partial      bigint   NOT NULL DEFAULT 0,
    failed       bigint   NOT NULL DEFAULT 0,
    unreachable  bigint   NOT NULL DEFAULT 0,
    skipped      bigint   NOT NULL DEFAULT 0,
    unknown      bigint   NOT NULL DEFAULT 0,
    undone       bigint   NOT NULL DEFAULT 0,
    not_undone   bigint   NOT NULL DEFAULT 0,
    undo_cursor  bigint,                        -- the last delivery whose messages were deleted, or could not be
    told_at      timestamptz                    -- when its progress was last told to whoever listens
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

-- What became of each recipient: written once, in key order; `unknown` and undone ones may change.
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

-- Which database this is, and how far it has come: a restored copy differs in one of them. At most one row.
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

-- Who may call the API: named tokens, of which only hashes are kept.
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

-- Who changed what through the API. Its ids follow time: the oldest rows are at the lower end.
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
