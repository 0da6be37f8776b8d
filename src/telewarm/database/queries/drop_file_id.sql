-- Drop file id $2 of media item $1, which is invalid, and make the item due with priority offset $3 (ms), unless there
-- is a newer id. The warm-up message stays, to be forwarded; not if the invalid id came from forwarding, nor for a
-- document of which Telegram made something else.
WITH dropped AS (
    UPDATE media
    SET state = 'warming', file_id = NULL, file_unique_id = NULL, sent_kind = NULL, way = NULL,
        warmup_message_id = CASE WHEN way = 'forward' OR (kind = 'document' AND sent_kind <> 'document') THEN NULL
                                 ELSE warmup_message_id END,
        attempts = 0, next_attempt_at = NULL,
        priority = (1000 * extract(epoch FROM now()))::bigint + $3::bigint, queued_at = now()
    WHERE id = $1 AND file_id = $2
    RETURNING id
)
SELECT pg_notify('telewarm_media', id || ':-') FROM dropped
