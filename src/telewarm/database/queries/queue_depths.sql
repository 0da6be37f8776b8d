-- For each bot with warming items, unless it is deleted: their number; how many of them wait for a back-off, counted up
-- to $1; and the age in seconds of the next one. The cost for a bot does not grow with their number.
WITH counted AS (
    SELECT bot_id, sum(items)::bigint AS items
    FROM (
        SELECT bot_id, items FROM media_count WHERE state = 'warming'
        UNION ALL
        SELECT bot_id, items FROM media_count_delta WHERE state = 'warming'
    ) AS warming
    GROUP BY bot_id
    HAVING sum(items) > 0
)
SELECT bot.slug, counted.items AS due,
       (
           SELECT count(*) FROM (
               SELECT FROM media
               WHERE media.bot_id = bot.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NOT NULL
               ORDER BY next_attempt_at
               LIMIT $1
           ) AS shown
       ) AS waiting,
       (
           SELECT extract(epoch FROM now() - media.queued_at)::float8 FROM media
           WHERE media.bot_id = bot.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NULL
           ORDER BY priority, id
           LIMIT 1
       ) AS head_age
FROM counted JOIN bot ON bot.id = counted.bot_id
WHERE bot.deleted_at IS NULL
ORDER BY bot.slug
