-- The first id of bot $1's media that is not older than time $2, by binary search: ids follow time. One more than the
-- last id when all are older; NULL when there are none. Rows are compared as pairs, as the library's index needs it.
WITH RECURSIVE half (low, high) AS (
    SELECT
        (
            SELECT id FROM media WHERE (bot_id, id) >= ($1, 0) AND (bot_id, id) < ($1 + 1, 0)
            ORDER BY bot_id, id LIMIT 1
        ),
        1 + (
            SELECT id FROM media WHERE (bot_id, id) >= ($1, 0) AND (bot_id, id) < ($1 + 1, 0)
            ORDER BY bot_id DESC, id DESC LIMIT 1
        )
    UNION ALL
    SELECT CASE WHEN found.created_at < $2 THEN found.id + 1 ELSE low END,
           CASE WHEN found.created_at < $2 THEN high ELSE middle END
    FROM half
    CROSS JOIN LATERAL (SELECT low + (high - low) / 2 AS middle) AS between_them
    CROSS JOIN LATERAL (
        SELECT id, created_at FROM media WHERE (bot_id, id) >= ($1, middle) ORDER BY bot_id, id LIMIT 1
    ) AS found
    WHERE low < high
)
SELECT low FROM half ORDER BY high - low, low DESC LIMIT 1
