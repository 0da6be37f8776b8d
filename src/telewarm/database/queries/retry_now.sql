-- The next items of bot $1 that wait for a back-off, at most $2: what they waited for has been mended, they are due.
-- Returns how many.
WITH waiting AS (
    SELECT id FROM media
    WHERE bot_id = $1 AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NOT NULL
    ORDER BY next_attempt_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
), mended AS (
    UPDATE media SET next_attempt_at = NULL FROM waiting WHERE media.id = waiting.id RETURNING media.id
)
SELECT count(*) FROM mended
