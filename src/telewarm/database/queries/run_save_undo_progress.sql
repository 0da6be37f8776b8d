-- Save the undo of broadcast $1 under lease $2: the messages to chats $3 are deleted, $4 others could not be; $5 is the
-- last chat handled. Channel $6, unless it is NULL, is notified, and an event is emitted. No row: the run is held by
-- another lease.
WITH mine AS (
    SELECT broadcast_id FROM broadcast_run WHERE broadcast_id = $1 AND lease_id = $2 FOR UPDATE
), sent AS (
    SELECT delivery.chat_id, delivery.outcome
    FROM mine JOIN delivery ON delivery.broadcast_id = mine.broadcast_id
    WHERE delivery.chat_id = ANY ($3::bigint[]) AND delivery.outcome IN ('sent', 'partial')
), undone AS (
    UPDATE delivery SET outcome = 'undone'
    FROM sent
    WHERE delivery.broadcast_id = $1 AND delivery.chat_id = sent.chat_id
    RETURNING sent.outcome
), counted AS (
    SELECT
        count(*) AS deliveries,
        count(*) FILTER (WHERE outcome = 'sent') AS sent,
        count(*) FILTER (WHERE outcome = 'partial') AS partial
    FROM undone
)
UPDATE broadcast_run
SET undone = broadcast_run.undone + counted.deliveries, sent = broadcast_run.sent - counted.sent,
    partial = broadcast_run.partial - counted.partial, not_undone = not_undone + $4, undo_cursor = $5,
    notified_at = CASE WHEN $6 IS NULL THEN notified_at ELSE now() END
FROM mine, counted
WHERE broadcast_run.broadcast_id = mine.broadcast_id
RETURNING true, (SELECT count(pg_notify($6, $1::bigint::text)) WHERE $6 IS NOT NULL) AS notified
