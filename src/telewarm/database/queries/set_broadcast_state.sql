-- Set broadcast $1 to state $2 if it is in one of $3, for reason $4, which is Telegram's refusal $6 if that is not
-- NULL; channel $5 is notified. One that is to run before its time is scheduled. No row: it was in none of $3.
WITH changed AS (
    UPDATE broadcast
    SET state = CASE WHEN $2 = 'running' AND starts_at > now() THEN 'scheduled' ELSE $2 END,
        reason = $4, refusal = coalesce($6, refusal),
        started_at = CASE WHEN $2 <> 'running' THEN started_at
                          WHEN started_at IS NULL AND starts_at > now() THEN NULL
                          ELSE coalesce(started_at, now()) END,
        ended_at = CASE WHEN $2 = 'running' THEN NULL WHEN $2 IN ('done', 'cancelled') THEN now() ELSE ended_at END
    WHERE id = $1 AND state = ANY ($3::text[])
    RETURNING id
)
SELECT count(pg_notify($5, id::text)) FROM changed
