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
    CHECK (state IN ('draft', 'running', 'paused', 'done', 'cancelled', 'undoing', 'undone'))
);

CREATE INDEX broadcast_of_bot ON broadcast (bot_id, id);

CREATE INDEX broadcast_active ON broadcast (bot_id) WHERE state IN ('running', 'undoing');

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
    undo_cursor  bigint                         -- the last delivery whose messages were deleted, or could not be
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
