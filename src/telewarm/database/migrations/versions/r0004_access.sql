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
