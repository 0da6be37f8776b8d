-- What became of chats $2 of broadcast $1 (outcomes $3, message ids as array literals, errors, new chats), told by a
-- former holder of its flight: those that are taken for unknown are known now. How many.
WITH settled AS (
    UPDATE delivery
    SET outcome = said.outcome, message_ids = said.message_ids::bigint[], error = said.error,
        moved_to = said.moved_to, at = now()
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[])
        AS said (chat_id, outcome, message_ids, error, moved_to)
    WHERE delivery.broadcast_id = $1 AND delivery.chat_id = said.chat_id AND delivery.outcome = 'unknown'
      AND said.outcome <> 'unknown'
    RETURNING delivery.outcome
), counted AS (
    SELECT
        count(*) AS deliveries,
        count(*) FILTER (WHERE outcome = 'sent') AS sent,
        count(*) FILTER (WHERE outcome = 'partial') AS partial,
        count(*) FILTER (WHERE outcome = 'failed') AS failed,
        count(*) FILTER (WHERE outcome = 'unreachable') AS unreachable
    FROM settled
)
UPDATE flight
SET unknown = unknown - counted.deliveries, sent = flight.sent + counted.sent,
    partial = flight.partial + counted.partial, failed = flight.failed + counted.failed,
    unreachable = flight.unreachable + counted.unreachable, told_at = now()
FROM counted
WHERE flight.broadcast_id = $1
RETURNING counted.deliveries
