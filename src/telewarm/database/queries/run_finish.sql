-- Lease $2 has nothing left to do for broadcast $1 in state $3: it is in state $4 from now on, channel $5 is told, and
-- the broadcast_run is free. Whether it was; false: it is in another state by now, or not in this lease's hand.
WITH landed AS (
    UPDATE broadcast_run SET lease_id = NULL
    WHERE broadcast_id = $1 AND lease_id = $2 AND in_flight = '{}' AND ($4 = 'undone' OR retry_chat_ids = '{}')
    RETURNING broadcast_id
), ended AS (
    UPDATE broadcast SET state = $4, ended_at = CASE WHEN $4 = 'done' THEN now() ELSE ended_at END, reason = NULL
    FROM landed
    WHERE broadcast.id = landed.broadcast_id AND state = $3
    RETURNING id
)
SELECT count(pg_notify($5, id::text)) = 1 FROM ended
