-- Add chats $2 to the recipients of broadcast $1; how many were new. In key order, so that the index grows page by
-- page.
WITH added AS (
    INSERT INTO recipient (broadcast_id, chat_id)
    SELECT $1, chat_id FROM unnest($2::bigint[]) AS given (chat_id) ORDER BY chat_id
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM added
