-- Replace unknown outcomes of chats $2 of broadcast $1 (outcomes $3, message ids as array literals, errors, new chats),
-- as a former holder of the run reports them; how many. When the broadcast is being undone, or was, the undo starts
-- again, so that these messages are deleted too; channel $7 is notified.
WITH resolved AS (
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
    FROM resolved
), reopened AS (
    UPDATE broadcast SET state = 'undoing'
    FROM counted
    WHERE id = $1 AND state IN ('undoing', 'undone') AND counted.sent + counted.partial > 0
    RETURNING id
), notified AS (
    SELECT pg_notify($7, id::text) FROM reopened
)
UPDATE broadcast_run
SET unknown = unknown - counted.deliveries, sent = broadcast_run.sent + counted.sent,
    partial = broadcast_run.partial + counted.partial, failed = broadcast_run.failed + counted.failed,
    unreachable = broadcast_run.unreachable + counted.unreachable, notified_at = now(),
    lease_id = CASE WHEN reopened.id IS NULL THEN lease_id END,
    undo_cursor = CASE WHEN reopened.id IS NULL THEN undo_cursor END,
    not_undone = CASE WHEN reopened.id IS NULL THEN not_undone ELSE 0 END
FROM counted LEFT JOIN reopened ON true
WHERE broadcast_run.broadcast_id = $1
RETURNING counted.deliveries, (SELECT count(*) FROM notified)
