-- Finish the run of broadcast $1 in state $3 under lease $2: the broadcast is in state $4 from now on, channel $5 is
-- notified, and the run is free. Whether it was; false: it is in another state by now, or held by another lease.
WITH written AS (
    UPDATE broadcast_run SET lease_id = NULL
    WHERE broadcast_id = $1 AND lease_id = $2 AND in_flight = '{}' AND ($4 = 'undone' OR retry_chat_ids = '{}')
    RETURNING broadcast_id
), ended AS (
    UPDATE broadcast SET state = $4, ended_at = CASE WHEN $4 = 'done' THEN now() ELSE ended_at END, reason = NULL
    FROM written
    WHERE broadcast.id = written.broadcast_id AND state = $3
    RETURNING id
)
SELECT count(pg_notify($5, id::text)) = 1 FROM ended
