-- Add the deltas to the counts and delete them. A concurrent call does nothing.
WITH taken AS (
    DELETE FROM media_count_delta
    WHERE (SELECT pg_try_advisory_xact_lock(7316582394107542))
    RETURNING bot_id, kind, state, items
)
INSERT INTO media_count
SELECT bot_id, kind, state, sum(items) FROM taken GROUP BY bot_id, kind, state HAVING sum(items) <> 0
ORDER BY bot_id, kind, state
ON CONFLICT (bot_id, kind, state) DO UPDATE SET items = media_count.items + EXCLUDED.items
