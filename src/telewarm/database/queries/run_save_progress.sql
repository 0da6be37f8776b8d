-- Save the progress of broadcast $1 under lease $2: the recipients that are in flight ($3) and wait for a retry ($4)
-- from now on, the last recipient read ($5), and the outcomes of chats $6 (outcomes, message ids as array literals,
-- errors, new chats). Channel $11, unless it is NULL, is notified, and an event is emitted. Returns the broadcast's
-- state; no row: the run is held by another lease.
WITH mine AS (
    SELECT broadcast_id FROM broadcast_run WHERE broadcast_id = $1 AND lease_id = $2 FOR UPDATE
), written AS (
    INSERT INTO delivery (broadcast_id, chat_id, outcome, message_ids, error, moved_to)
    SELECT mine.broadcast_id, said.chat_id, said.outcome, said.message_ids::bigint[], said.error, said.moved_to
    FROM mine
    CROSS JOIN unnest($6::bigint[], $7::text[], $8::text[], $9::text[], $10::bigint[])
        AS said (chat_id, outcome, message_ids, error, moved_to)
    ON CONFLICT DO NOTHING
    RETURNING outcome
), counted AS (
    SELECT
        count(*) FILTER (WHERE outcome = 'sent') AS sent,
        count(*) FILTER (WHERE outcome = 'partial') AS partial,
        count(*) FILTER (WHERE outcome = 'failed') AS failed,
        count(*) FILTER (WHERE outcome = 'unreachable') AS unreachable,
        count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
        count(*) FILTER (WHERE outcome = 'unknown') AS unknown
    FROM written
)
UPDATE broadcast_run
SET in_flight = $3, retry_chat_ids = $4, cursor = $5,
    sent = broadcast_run.sent + counted.sent, partial = broadcast_run.partial + counted.partial,
    failed = broadcast_run.failed + counted.failed, unreachable = broadcast_run.unreachable + counted.unreachable,
    skipped = broadcast_run.skipped + counted.skipped, unknown = broadcast_run.unknown + counted.unknown,
    notified_at = CASE WHEN $11 IS NULL THEN notified_at ELSE now() END
FROM mine, counted, broadcast
WHERE broadcast_run.broadcast_id = mine.broadcast_id AND broadcast.id = mine.broadcast_id
RETURNING broadcast.state, (SELECT count(pg_notify($11, $1::bigint::text)) WHERE $11 IS NOT NULL) AS notified
