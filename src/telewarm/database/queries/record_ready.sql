-- Record new file ids, unless there is a newer one, and notify waiting senders. An id that is being warmed again is
-- replaced only by the holder of lease $8. $10: the names of the uploads; an item that was renamed while it was claimed
-- is due again, and sent by this id until then. $9: the Telegram bot of the ids; when the bot is another by now, they
-- are worthless and the items are released. A notification has at most 8000 bytes: 200 items at once.
WITH fresh AS (
    SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $10::text[]
    ) AS t (id, file_id, file_unique_id, sent_kind, way, warmup_chat, warmup_message_id, sent_name)
), written AS (
    UPDATE media AS m
    SET state = CASE WHEN m.lease_id = $8 AND m.name IS DISTINCT FROM fresh.sent_name
                          AND m.kind NOT IN ('photo', 'voice', 'video_note', 'sticker') THEN 'warming' ELSE 'ready' END,
        file_id = fresh.file_id, file_unique_id = fresh.file_unique_id, sent_kind = fresh.sent_kind,
        way = fresh.way, warmup_chat = fresh.warmup_chat, warmup_message_id = fresh.warmup_message_id,
        sent_name = fresh.sent_name, warmed_at = now(), lease_id = NULL, attempts = 0, next_attempt_at = NULL,
        last_error_code = NULL, last_error = NULL
    FROM fresh, bot
    WHERE m.id = fresh.id AND bot.id = m.bot_id AND (m.file_id IS NULL OR m.lease_id = $8)
      AND ($9::bigint IS NULL OR bot.telegram_id = $9)
    RETURNING m.id, m.file_id
), put_back AS (
    UPDATE media AS m
    SET lease_id = NULL
    FROM bot
    WHERE m.id = ANY ($1) AND bot.id = m.bot_id AND m.lease_id = $8 AND bot.telegram_id <> $9
), listed AS (
    SELECT id || ':' || left(md5(file_id), 8) AS item, (row_number() OVER () - 1) / 200 AS chunk FROM written
), notified AS (
    SELECT pg_notify('telewarm_media', string_agg(item, ',')) FROM listed GROUP BY chunk
)
SELECT written.id, (SELECT count(*) FROM notified) FROM written
