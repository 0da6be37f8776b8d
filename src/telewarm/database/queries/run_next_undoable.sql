-- The next $3 deliveries of broadcast $1 after chat $2 that left messages; `deletable`: younger than $4 seconds.
SELECT chat_id, coalesce(moved_to, chat_id) AS sent_to, message_ids, at > now() - make_interval(secs => $4) AS deletable
FROM delivery
WHERE broadcast_id = $1 AND chat_id > $2 AND outcome IN ('sent', 'partial')
ORDER BY chat_id
LIMIT $3
