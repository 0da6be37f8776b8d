-- Bots $1, which have due work, whose lane no worker runs, and the seconds since one should have. $2: seconds that a
-- lane may be late. While any lane runs, the others wait for their turn, and no bot is late.
WITH job AS (
    SELECT dedupe_key, status, execute_after, heartbeat FROM pgqueuer
    WHERE dedupe_key LIKE 'lane:%' AND status IN ('queued', 'picked')
), late AS (
    SELECT bot.slug, CASE job.status
        WHEN 'queued' THEN extract(epoch FROM now() - job.execute_after)
        WHEN 'picked' THEN extract(epoch FROM now() - job.heartbeat)
        ELSE extract(epoch FROM now() - coalesce(
            (
                SELECT queued_at FROM media
                WHERE media.bot_id = bot.id AND media.state = 'warming' AND media.lease_id IS NULL
                  AND media.next_attempt_at IS NULL
                ORDER BY priority, id
                LIMIT 1
            ),
            (
                SELECT coalesce(started_at, starts_at) FROM broadcast
                WHERE broadcast.bot_id = bot.id AND broadcast.state IN ('scheduled', 'running', 'undoing')
                ORDER BY id
                LIMIT 1
            )
        ))
    END::float8 AS seconds
    FROM bot LEFT JOIN job ON job.dedupe_key = 'lane:' || bot.slug
    WHERE bot.id = ANY ($1::bigint[])
)
SELECT slug, seconds FROM late
WHERE seconds > $2
  AND NOT EXISTS (SELECT FROM job WHERE status = 'picked' AND heartbeat > now() - make_interval(secs => $2))
ORDER BY seconds DESC, slug
