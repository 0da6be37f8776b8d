-- Write failures: with a delay the item waits that long (seconds) and is tried again, without one it is in error.
WITH failed AS (
    SELECT * FROM unnest($1::bigint[], $2::float8[], $3::text[], $4::text[]) AS t (id, delay, code, message)
), written AS (
    UPDATE media AS m
    SET state = CASE WHEN failed.delay IS NULL THEN 'error' ELSE 'warming' END,
        next_attempt_at = now() + make_interval(secs => failed.delay),
        attempts = m.attempts + 1, lease_id = NULL, last_error_code = failed.code, last_error = failed.message
    FROM failed
    WHERE m.id = failed.id AND m.state = 'warming'
    RETURNING m.id, m.state
), told AS (
    SELECT pg_notify('telewarm_media', string_agg(id::text, ',')) FROM written WHERE state = 'error' HAVING count(*) > 0
)
SELECT written.id FROM written LEFT JOIN told ON true
