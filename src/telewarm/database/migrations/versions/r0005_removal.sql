ALTER TABLE bot
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN purged_at timestamptz,
    ADD CHECK (purged_at IS NULL OR deleted_at IS NOT NULL);

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

-- Those that still need their media.
CREATE INDEX broadcast_unended ON broadcast (bot_id) WHERE state IN ('draft', 'running', 'paused');
