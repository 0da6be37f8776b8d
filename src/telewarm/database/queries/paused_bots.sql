-- Bots that are paused by a person, or by a flood wait of theirs or of some of their chats; at most $1.
SELECT slug,
       paused_at IS NOT NULL AS paused,
       greatest(0, coalesce(extract(epoch FROM paused_until - now()), 0))::float8 AS flood_wait,
       coalesce(waits.chats, 0) AS chats_waiting,
       coalesce(waits.longest, 0)::float8 AS longest_chat_wait
FROM bot
LEFT JOIN (
    SELECT bot_id, count(*) AS chats, extract(epoch FROM max(until) - now()) AS longest
    FROM flood_wait WHERE until > now() GROUP BY bot_id
) AS waits ON waits.bot_id = bot.id
WHERE deleted_at IS NULL AND (paused_at IS NOT NULL OR paused_until > now() OR waits.bot_id IS NOT NULL)
ORDER BY slug
LIMIT $1
