-- Somebody waits for media item $1: its handicap (ms) is $2 from now on, unless it goes even earlier already.
-- No row: it does, or it needs no warm-up.
UPDATE media
SET state = 'warming', priority = (1000 * extract(epoch FROM now()))::bigint + $2::bigint,
    queued_at = CASE WHEN state = 'warming' THEN queued_at ELSE now() END
WHERE id = $1
  AND (state = 'cold' OR (state = 'warming' AND priority > (1000 * extract(epoch FROM now()))::bigint + $2::bigint))
RETURNING id
