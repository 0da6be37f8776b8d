-- Broadcast $1 goes into state $2 if it is in one of $3, for reason $4; channel $5 is told. No row: it was in none.
WITH changed AS (
    UPDATE broadcast
    SET state = $2, reason = $4,
        started_at = CASE WHEN $2 = 'running' THEN coalesce(started_at, greatest(now(), starts_at))
                          ELSE started_at END,
        ended_at = CASE WHEN $2 = 'running' THEN NULL WHEN $2 IN ('done', 'cancelled') THEN now() ELSE ended_at END
    WHERE id = $1 AND state = ANY ($3::text[])
    RETURNING id
)
SELECT count(pg_notify($5, id::text)) FROM changed
