-- Write fresh file ids, unless a fresher one is there already, and tell whoever waits for them.
WITH fresh AS (
    SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[]
    ) AS t (id, file_id, file_unique_id, sent_kind, way, warmup_chat, warmup_message_id)
), written AS (
    UPDATE media AS m
    SET state = 'ready', file_id = fresh.file_id, file_unique_id = fresh.file_unique_id, sent_kind = fresh.sent_kind,
        way = fresh.way, warmup_chat = fresh.warmup_chat, warmup_message_id = fresh.warmup_message_id,
        warmed_at = now(), lease_id = NULL, attempts = 0, next_attempt_at = NULL,
        last_error_code = NULL, last_error = NULL
    FROM fresh
    WHERE m.id = fresh.id AND m.state <> 'ready'
    RETURNING m.id
), told AS (
    SELECT pg_notify('telewarm_media', string_agg(id::text, ',')) FROM written HAVING count(*) > 0
)
SELECT written.id FROM written LEFT JOIN told ON true
