-- Warm media items $1 again, with priority offsets $2 (ms): they are uploaded, for their warm-up messages are
-- forgotten. An item with a file id is sent by it until then. Claimed items, and those due earlier, stay as they are.
UPDATE media AS m
SET state = 'warming', attempts = 0, next_attempt_at = NULL, warmup_message_id = NULL,
    priority = (1000 * extract(epoch FROM now()))::bigint + asked.handicap,
    queued_at = CASE WHEN m.state = 'warming' THEN m.queued_at ELSE now() END,
    last_error_code = NULL, last_error = NULL
FROM unnest($1::bigint[], $2::bigint[]) AS asked (id, handicap)
WHERE m.id = asked.id AND m.lease_id IS NULL
  AND (m.state <> 'warming' OR m.next_attempt_at IS NOT NULL
       OR m.priority > (1000 * extract(epoch FROM now()))::bigint + asked.handicap)
RETURNING m.id
