-- Forget what the ledger of bot $1 holds: of the chats $2 (null: of all), in state $3 (null: in any), $4 lines at
-- most. Tells every process of migrations that are forgotten: such a chat is itself again.
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
), told AS (
    SELECT count(pg_notify('telewarm_chat', $1::bigint || ' ' || chat_id || ' ' || chat_id))
    FROM cleared
    WHERE migrated_to IS NOT NULL
)
SELECT count(*) + 0 * (SELECT count FROM told) FROM cleared
