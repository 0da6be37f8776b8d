-- The next items of bot $1 that wait for a back-off, at most $2: what they waited for has been mended, they are due.
-- Returns how many. It waits for whoever writes one of them, since an item passed over would wait to the end.
WITH waiting AS MATERIALIZED (
    SELECT id FROM media
    WHERE bot_id = $1 AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NOT NULL
    ORDER BY next_attempt_at
    LIMIT $2
), locked AS MATERIALIZED (
    SELECT media.id FROM media JOIN waiting USING (id)
    ORDER BY media.id
    FOR NO KEY UPDATE OF media
), mended AS (
    UPDATE media SET next_attempt_at = NULL FROM locked
    WHERE media.id = locked.id AND media.state = 'warming' AND media.lease_id IS NULL
    RETURNING media.id
)
SELECT count(*) FROM waiting
