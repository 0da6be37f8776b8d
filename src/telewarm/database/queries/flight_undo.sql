-- Of broadcast $1, whose flight lease $2 has in hand: the messages to chats $3 are deleted, $4 others could not be; the
-- last chat looked at is $5. Channel $6, unless it is NULL, is told, and with it whoever listens to events. No row: the
-- flight is lost.
WITH mine AS (
    SELECT broadcast_id FROM flight WHERE broadcast_id = $1 AND lease_id = $2 FOR UPDATE
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
UPDATE flight
SET undone = flight.undone + counted.deliveries, sent = flight.sent - counted.sent,
    partial = flight.partial - counted.partial, not_undone = not_undone + $4, undo_cursor = $5,
    told_at = CASE WHEN $6 IS NULL THEN told_at ELSE now() END
FROM mine, counted
WHERE flight.broadcast_id = mine.broadcast_id
RETURNING true, (SELECT count(pg_notify($6, $1::bigint::text)) WHERE $6 IS NOT NULL) AS told
