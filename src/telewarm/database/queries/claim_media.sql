-- Claim due media of bot $1 in order, at most $2, under lease $3. A paused or deleted bot has none. $4: the bots that
-- share a warm-up chat with it, $5: its warm-up chats. An item that one of them is uploading stays due, unless there is
-- one to forward already: once theirs is ready it can be forwarded instead of uploaded. Recipients see the name in the
-- message of the file id: only a message with this item's name is forwarded, unless the kind shows no name. Nothing is
-- claimed under an expired lease. Each row says whether `release_expired_backoffs` has work.
WITH due AS MATERIALIZED (
    SELECT m.id, m.sha256, m.kind, m.name, m.kind IN ('photo', 'voice', 'video_note', 'sticker') AS nameless
    FROM media AS m
    WHERE m.bot_id = $1 AND m.state = 'warming' AND m.lease_id IS NULL AND m.next_attempt_at IS NULL
      AND EXISTS (SELECT FROM lease WHERE lease.id = $3)
      AND EXISTS (SELECT FROM bot WHERE bot.id = $1 AND bot.paused_at IS NULL AND bot.deleted_at IS NULL)
      AND (
          SELECT count(*) FILTER (
                  WHERE theirs.lease_id IS NOT NULL
                    AND (m.kind IN ('photo', 'voice', 'video_note', 'sticker')
                         OR theirs.name IS NOT DISTINCT FROM m.name)
              ) = 0
              OR count(*) FILTER (
                  WHERE theirs.state = 'ready' AND theirs.warmup_chat = ANY ($5::bigint[])
                    AND theirs.warmup_message_id IS NOT NULL
                    AND (m.kind IN ('photo', 'voice', 'video_note', 'sticker')
                         OR theirs.sent_name IS NOT DISTINCT FROM m.name)
                    AND (m.kind <> 'document' OR theirs.sent_kind = 'document')
              ) > 0
          FROM media AS theirs
          WHERE theirs.bot_id = ANY ($4::bigint[]) AND theirs.sha256 = m.sha256 AND theirs.kind = m.kind
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
      AND (due.nameless OR theirs.sent_name IS NOT DISTINCT FROM due.name)
      AND (due.kind <> 'document' OR theirs.sent_kind = 'document')
    LIMIT 1
) AS origin ON true
WHERE m.id = due.id
RETURNING m.id, m.kind, m.name, m.attempts, m.priority, m.queued_at,
          extract(epoch FROM now() - m.queued_at)::float8 AS waited,
          blob.sha256, blob.storage_key, blob.thumbnail_key, blob.thumbnail_bytes, blob.bytes, blob.mime, blob.ext,
          blob.width, blob.height, blob.duration, blob.video_codec, blob.audio_codec, blob.title, blob.performer,
          blob.streamable,
          coalesce(
              origin.warmup_chat,
              CASE WHEN m.warmup_message_id IS NOT NULL AND m.warmup_chat = ANY ($5)
                        AND (due.nameless OR m.sent_name IS NOT DISTINCT FROM m.name) THEN m.warmup_chat END
          ) AS warmup_chat,
          coalesce(origin.warmup_message_id, m.warmup_message_id) AS warmup_message_id,
          (
              SELECT later.next_attempt_at <= now()
              FROM media AS later
              WHERE later.bot_id = $1 AND later.state = 'warming' AND later.lease_id IS NULL
                AND later.next_attempt_at IS NOT NULL
              ORDER BY later.next_attempt_at
              LIMIT 1
          ) AS overdue
