-- Make items of bot $1 due whose back-off is over, at most a thousand. Returns how many.
WITH over AS (
    SELECT id FROM media
    WHERE bot_id = $1 AND state = 'warming' AND lease_id IS NULL AND next_attempt_at <= now()
    ORDER BY next_attempt_at
    LIMIT 1000
    FOR NO KEY UPDATE SKIP LOCKED
), promoted AS (
    UPDATE media SET next_attempt_at = NULL FROM over WHERE media.id = over.id RETURNING media.id
)
SELECT count(*) FROM promoted
