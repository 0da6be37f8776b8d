-- Bots, blobs, media items and the leases on them.

CREATE TABLE bot (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug          text        NOT NULL UNIQUE CHECK (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    telegram_id   bigint      NOT NULL UNIQUE,  -- the digits before the token's colon: file ids belong to it
    username      text,
    token_sealed  bytea       NOT NULL,
    warmup_chats  bigint[]    NOT NULL,
    paused_until  timestamptz,                  -- a flood wait of the whole bot; every process obeys it
    created_at    timestamptz NOT NULL DEFAULT now()
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
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- Who holds media rows right now. A holder renews its lease; one that stops is swept away and its rows are free again.
CREATE TABLE lease (
    id         uuid        PRIMARY KEY,
    holder     text        NOT NULL,            -- host and process, for people
    expires_at timestamptz NOT NULL
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
    priority          integer     NOT NULL DEFAULT 0,  -- lower goes first
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
    UNIQUE (bot_id, sha256, kind),
    CHECK (kind IN ('photo', 'video', 'audio', 'document', 'voice', 'animation', 'video_note', 'sticker')),
    CHECK (state <> 'ready' OR (file_id IS NOT NULL AND sent_kind IS NOT NULL))
);

-- The hot lookup: file ids of ready media, from the index alone.
CREATE INDEX media_ready ON media (bot_id, id) INCLUDE (file_id, sent_kind) WHERE state = 'ready';

-- The claim: due media of a bot in order, however many wait behind them.
CREATE INDEX media_due ON media (bot_id, priority, id)
    WHERE state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NULL;

CREATE INDEX media_waiting ON media (bot_id, next_attempt_at)
    WHERE state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NOT NULL;

CREATE INDEX media_in_hand ON media (lease_id) WHERE lease_id IS NOT NULL;

-- Which items use a blob (sharing, collection).
CREATE INDEX media_blob ON media (sha256);

-- The library, page by page.
CREATE INDEX media_library ON media (bot_id, id);
