-- Record failures of items claimed under lease $1: with a delay the item waits that long (seconds) and is tried again,
-- without one it is in error, or ready as before when it has an old file id.
WITH failed AS (
    SELECT * FROM unnest($2::bigint[], $3::float8[], $4::boolean[], $5::text[], $6::text[])
        AS t (id, delay, counted, code, message)
), written AS (
    UPDATE media AS m
    SET state = CASE WHEN failed.delay IS NOT NULL THEN 'warming' WHEN m.file_id IS NOT NULL THEN 'ready'
                     ELSE 'error' END,
        next_attempt_at = now() + make_interval(secs => failed.delay),
        attempts = m.attempts + failed.counted::integer, lease_id = NULL,
        last_error_code = failed.code, last_error = failed.message
    FROM failed
    WHERE m.id = failed.id AND m.state = 'warming' AND m.lease_id = $1
    RETURNING m.id, m.state, m.file_id
), listed AS (
    SELECT id || ':' || coalesce(left(md5(file_id), 8), '-') AS item, (row_number() OVER () - 1) / 200 AS chunk
    FROM written WHERE state <> 'warming'
), notified AS (
    SELECT pg_notify('telewarm_media', string_agg(item, ',')) FROM listed GROUP BY chunk
)
SELECT written.id, (SELECT count(*) FROM notified) FROM written
