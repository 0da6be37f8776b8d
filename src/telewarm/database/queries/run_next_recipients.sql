-- The next $4 recipients of broadcast $1 after chat $3 in key order, and why one is not to be called by its chat status
-- with bot $2: it is unreachable, or has become a group that is a recipient too.
SELECT ahead.chat_id, lost.error, lost.moved_to
FROM (
    SELECT chat_id FROM recipient WHERE broadcast_id = $1 AND chat_id > $3 ORDER BY chat_id LIMIT $4
) AS ahead
LEFT JOIN LATERAL (
    SELECT upper(chat.state) || ': ' || chat.reason AS error, chat.migrated_to AS moved_to
    FROM chat
    WHERE chat.bot_id = $2 AND chat.chat_id = ahead.chat_id AND chat.state <> 'reachable'
      AND (
          chat.migrated_to IS NULL
          OR EXISTS (
              SELECT FROM recipient WHERE recipient.broadcast_id = $1 AND recipient.chat_id = chat.migrated_to
          )
      )
) AS lost ON true
ORDER BY ahead.chat_id
