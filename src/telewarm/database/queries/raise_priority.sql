-- Set the priority offset of media item $1 to $2 (ms), for a sender that waits, unless it has a lower one. No row: it
-- has, or it needs no warm-up.
UPDATE media
SET state = 'warming', priority = (1000 * extract(epoch FROM now()))::bigint + $2::bigint,
    queued_at = CASE WHEN state = 'warming' THEN queued_at ELSE now() END
WHERE id = $1
  AND (state = 'cold' OR (state = 'warming' AND priority > (1000 * extract(epoch FROM now()))::bigint + $2::bigint))
RETURNING id
