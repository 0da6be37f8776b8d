-- Back-offs of bot $1 that are over: the items are due.
UPDATE media SET next_attempt_at = NULL
WHERE bot_id = $1 AND state = 'warming' AND lease_id IS NULL AND next_attempt_at <= now()
