-- Chats ($1 bots, $2 chats) that were reached $3 seconds ago: unreachable ones are reachable again. Rows are locked in
-- key order, as by all statements that write many.
WITH reached AS (
    SELECT known.bot_id, known.chat_id, now() - make_interval(secs => t.age) AS since
    FROM unnest($1::bigint[], $2::bigint[], $3::float8[]) AS t (bot_id, chat_id, age)
    JOIN chat AS known ON known.bot_id = t.bot_id AND known.chat_id = t.chat_id
    WHERE known.state NOT IN ('reachable', 'migrated') AND known.since <= now() - make_interval(secs => t.age)
    ORDER BY known.bot_id, known.chat_id
    FOR NO KEY UPDATE OF known
)
UPDATE chat
SET state = 'reachable', reason = '', since = reached.since
FROM reached
WHERE chat.bot_id = reached.bot_id AND chat.chat_id = reached.chat_id
  AND chat.state NOT IN ('reachable', 'migrated')
