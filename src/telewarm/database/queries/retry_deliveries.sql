-- Send again to recipients of broadcast $1 with one of the outcomes $2 (`unknown`, `failed`); with `unknown` also to
-- those that a dead holder of the run left in flight. Returns how many chats; NULL: a living process holds the run, and
-- nothing is changed.
WITH grounded AS (
    SELECT broadcast_id, CASE WHEN 'unknown' = ANY ($2::text[]) THEN in_flight ELSE '{}' END AS lost,
        CASE WHEN 'unknown' = ANY ($2::text[]) THEN '{}' ELSE in_flight END AS kept
    FROM broadcast_run
    WHERE broadcast_id = $1
      AND NOT EXISTS (SELECT FROM lease WHERE lease.id = broadcast_run.lease_id AND expires_at > now())
    FOR UPDATE
), taken AS (
    DELETE FROM delivery USING grounded
    WHERE delivery.broadcast_id = $1 AND outcome = ANY ($2::text[])
    RETURNING chat_id, outcome
), counted AS (
    SELECT count(*) FILTER (WHERE outcome = 'unknown') AS unknown, count(*) FILTER (WHERE outcome = 'failed') AS failed,
        coalesce(array_agg(chat_id), '{}') AS ids
    FROM taken
)
UPDATE broadcast_run
SET retry_chat_ids = retry_chat_ids || grounded.lost || counted.ids, in_flight = grounded.kept, lease_id = NULL,
    unknown = broadcast_run.unknown - counted.unknown, failed = broadcast_run.failed - counted.failed
FROM grounded, counted
WHERE broadcast_run.broadcast_id = grounded.broadcast_id
RETURNING cardinality(counted.ids) + cardinality(grounded.lost)
