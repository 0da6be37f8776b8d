-- Run queued lanes of bots $1 at once when something has become due by the clock since they were queued, or when that
-- was more than $2 seconds ago. A lane that was queued for a flood limit is not asked at every sweep.
WITH hurried AS (
    UPDATE pgqueuer AS job
    SET execute_after = now(), updated = now()
    FROM bot
    WHERE bot.id = ANY ($1::bigint[]) AND job.dedupe_key = 'lane:' || bot.slug
      AND job.status = 'queued' AND job.execute_after > now()
      AND (
          job.updated < now() - make_interval(secs => $2)
          OR EXISTS (
              SELECT FROM media
              WHERE media.bot_id = bot.id AND media.state = 'warming' AND media.lease_id IS NULL
                AND media.next_attempt_at > job.updated AND media.next_attempt_at <= now()
          )
          OR EXISTS (
              SELECT FROM broadcast
              WHERE broadcast.bot_id = bot.id AND broadcast.state = 'scheduled'
                AND broadcast.starts_at > job.updated AND broadcast.starts_at <= now()
          )
      )
    RETURNING job.id
)
SELECT pg_notify('ch_pgqueuer', json_build_object(
    'channel', 'ch_pgqueuer', 'operation', 'update', 'sent_at', now(), 'table', 'pgqueuer', 'type', 'table_changed_event'
)::text)
WHERE EXISTS (SELECT FROM hurried)
