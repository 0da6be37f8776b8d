-- Delete chat statuses of bot $1: of the chats $2 (null: of all), in state $3 (null: in any), at most $4 rows. Notifies
-- every process of deleted migrations: such a chat keeps its own id from then on.
WITH known AS (
    SELECT chat_id FROM chat
    WHERE bot_id = $1 AND ($2::bigint[] IS NULL OR chat_id = ANY ($2)) AND ($3::text IS NULL OR state = $3)
    ORDER BY chat_id
    LIMIT $4
    FOR UPDATE
), cleared AS (
    DELETE FROM chat USING known
    WHERE chat.bot_id = $1 AND chat.chat_id = known.chat_id
    RETURNING chat.chat_id, migrated_to
), notified AS (
    SELECT count(pg_notify('telewarm_chat', $1::bigint || ' ' || chat_id || ' ' || chat_id))
    FROM cleared
    WHERE migrated_to IS NOT NULL
)
SELECT count(*) + 0 * (SELECT count FROM notified) FROM cleared
