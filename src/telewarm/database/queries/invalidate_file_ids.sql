-- Make the next items of bot $1 after id $2 due, at most $3: their file ids belong to another Telegram bot. Claimed
-- ones too. The warm-up messages stay: perhaps the new bot may forward them. Returns the last id, NULL when there are
-- no more.
WITH mine AS (
    SELECT id FROM media WHERE bot_id = $1 AND id > $2 ORDER BY id LIMIT $3 FOR NO KEY UPDATE
), voided AS (
    UPDATE media AS m
    SET state = 'warming', file_id = NULL, file_unique_id = NULL, sent_kind = NULL, way = NULL, lease_id = NULL,
        warmup_message_id = CASE WHEN m.kind = 'document' AND m.sent_kind <> 'document' THEN NULL
                                 ELSE m.warmup_message_id END,
        attempts = 0, next_attempt_at = NULL, last_error_code = NULL, last_error = NULL,
        priority = (1000 * extract(epoch FROM now()))::bigint,
        queued_at = CASE WHEN m.state = 'warming' THEN m.queued_at ELSE now() END
    FROM mine
    WHERE m.id = mine.id AND (m.file_id IS NOT NULL OR m.lease_id IS NOT NULL OR m.next_attempt_at IS NOT NULL)
)
SELECT max(id) FROM mine
