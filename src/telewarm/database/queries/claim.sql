-- Claim due media of bot $1 in order, at most $2, under lease $3.
-- $4: the bots that share a warm-up chat with it, $5: its warm-up chats. An item that one of them is placing right now
-- stays due: once theirs is ready it can be forwarded instead of uploaded. Nothing is claimed under a lease that is gone.
WITH due AS MATERIALIZED (
    SELECT m.id, m.sha256, m.kind
    FROM media AS m
    WHERE m.bot_id = $1 AND m.state = 'warming' AND m.lease_id IS NULL AND m.next_attempt_at IS NULL
      AND EXISTS (SELECT FROM lease WHERE lease.id = $3)
      AND NOT EXISTS (
          SELECT FROM media AS theirs
          WHERE theirs.bot_id = ANY ($4::bigint[]) AND theirs.sha256 = m.sha256 AND theirs.kind = m.kind
            AND theirs.lease_id IS NOT NULL
      )
    ORDER BY m.priority, m.id
    LIMIT $2
    FOR NO KEY UPDATE OF m SKIP LOCKED
)
UPDATE media AS m
SET lease_id = $3
FROM due
JOIN blob ON blob.sha256 = due.sha256
LEFT JOIN LATERAL (
    SELECT theirs.warmup_chat, theirs.warmup_message_id
    FROM media AS theirs
    WHERE theirs.bot_id = ANY ($4::bigint[]) AND theirs.sha256 = due.sha256 AND theirs.kind = due.kind
      AND theirs.state = 'ready' AND theirs.warmup_chat = ANY ($5::bigint[]) AND theirs.warmup_message_id IS NOT NULL
    LIMIT 1
) AS origin ON true
WHERE m.id = due.id
RETURNING m.id, m.kind, m.name, m.attempts, m.priority, m.queued_at,
          blob.sha256, blob.storage_key, blob.thumbnail_key, blob.bytes, blob.mime, blob.ext, blob.width, blob.height,
          blob.duration, blob.video_codec, blob.audio_codec, blob.title, blob.performer,
          origin.warmup_chat, origin.warmup_message_id
