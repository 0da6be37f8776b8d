-- The next $1 items of all bots that are not paused, and for how many ms each has waited. The head of each bot's queue
-- decides which bots can have one of them.
WITH busy AS (
    SELECT DISTINCT bot_id
    FROM (
        SELECT bot_id FROM media_count WHERE state = 'warming' AND items > 0
        UNION ALL
        SELECT bot_id FROM media_count_delta WHERE state = 'warming'
    ) AS warming
), heads AS (
    SELECT bot.id, bot.slug
    FROM busy
    JOIN bot ON bot.id = busy.bot_id
    CROSS JOIN LATERAL (
        SELECT priority, media.id FROM media
        WHERE media.bot_id = bot.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NULL
        ORDER BY priority, media.id
        LIMIT 1
    ) AS head
    WHERE bot.deleted_at IS NULL AND bot.paused_at IS NULL
    ORDER BY head.priority, head.id
    LIMIT $1
)
SELECT heads.slug, due.id, due.kind, due.sha256, due.queued_at,
       round(1000 * extract(epoch FROM now() - due.queued_at))::bigint AS waiting_ms
FROM heads
CROSS JOIN LATERAL (
    SELECT media.id, kind, sha256, queued_at, priority FROM media
    WHERE media.bot_id = heads.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NULL
    ORDER BY priority, media.id
    LIMIT $1
) AS due
ORDER BY due.priority, due.id
LIMIT $1
