-- Chats that bots could not reach ($1 to $5, one row a chat), and how many seconds ago that was ($6). A newer status
-- stays; so does a migration, which is final. A state that lasts keeps its beginning. Notifies every process of
-- migrations.
WITH updates AS (
    SELECT t.*, now() - make_interval(secs => t.age) AS since
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::float8[])
        AS t (bot_id, chat_id, state, reason, migrated_to, age)
    JOIN bot ON bot.id = t.bot_id
    ORDER BY t.bot_id, t.chat_id
), written AS (
    INSERT INTO chat AS known (bot_id, chat_id, state, reason, migrated_to, since)
    SELECT bot_id, chat_id, state, reason, migrated_to, since FROM updates
    ON CONFLICT (bot_id, chat_id) DO UPDATE
    SET state = EXCLUDED.state, reason = EXCLUDED.reason, migrated_to = EXCLUDED.migrated_to,
        since = CASE WHEN known.state = EXCLUDED.state THEN known.since ELSE EXCLUDED.since END
    WHERE known.since <= EXCLUDED.since
      AND (known.state <> 'migrated' OR EXCLUDED.state = 'migrated')
      AND (known.state, known.reason, known.migrated_to)
          IS DISTINCT FROM (EXCLUDED.state, EXCLUDED.reason, EXCLUDED.migrated_to)
    RETURNING bot_id, chat_id, migrated_to
)
SELECT count(pg_notify('telewarm_chat', bot_id || ' ' || chat_id || ' ' || migrated_to))
FROM written
WHERE migrated_to IS NOT NULL
