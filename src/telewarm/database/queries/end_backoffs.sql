-- End the next back-offs of bot $1, at most $2: their cause is gone, the items are due. Returns how many. Waits for
-- locked rows, since a skipped item would wait to the end of its back-off.
WITH waiting AS MATERIALIZED (
    SELECT id FROM media
    WHERE bot_id = $1 AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NOT NULL
    ORDER BY next_attempt_at
    LIMIT $2
), locked AS MATERIALIZED (
    SELECT media.id FROM media JOIN waiting USING (id)
    ORDER BY media.id
    FOR NO KEY UPDATE OF media
), due AS (
    UPDATE media SET next_attempt_at = NULL FROM locked
    WHERE media.id = locked.id AND media.state = 'warming' AND media.lease_id IS NULL
    RETURNING media.id
)
SELECT count(*) FROM waiting
