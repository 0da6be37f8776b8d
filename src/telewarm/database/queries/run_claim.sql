-- Claim the run of broadcast $1 under lease $2, unless a living lease holds it. Recipients that a dead holder left in
-- flight may have got the message or not: their outcome is unknown. No row: it is held, or there is none.
WITH free AS (
    SELECT broadcast_id, in_flight FROM broadcast_run
    WHERE broadcast_id = $1
      AND (
          lease_id IS NULL OR lease_id = $2
          OR NOT EXISTS (SELECT FROM lease WHERE lease.id = broadcast_run.lease_id AND expires_at > now())
      )
    FOR UPDATE
), lost AS (
    INSERT INTO delivery (broadcast_id, chat_id, outcome, error)
    SELECT broadcast_id, chat_id, 'unknown', 'INTERRUPTED: the process that sent it ended before the answer came'
    FROM free CROSS JOIN LATERAL unnest(in_flight) AS left_over (chat_id)
    ON CONFLICT DO NOTHING
    RETURNING 1
)
UPDATE broadcast_run
SET lease_id = $2, in_flight = '{}', unknown = unknown + (SELECT count(*) FROM lost)
FROM free
WHERE broadcast_run.broadcast_id = free.broadcast_id
RETURNING cursor, retry_chat_ids, undo_cursor, (SELECT count(*) FROM lost) AS lost
