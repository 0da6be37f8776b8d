-- Number of items of bot $1 by kind and state: the counts, and the deltas since, in one snapshot.
SELECT kind, state, sum(items)::bigint AS items
FROM (
    SELECT kind, state, items FROM media_count WHERE bot_id = $1
    UNION ALL
    SELECT kind, state, items FROM media_count_delta WHERE bot_id = $1
) AS counted
GROUP BY kind, state
HAVING sum(items) <> 0
