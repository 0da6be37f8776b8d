-- Broadcasts that bot $1 has to send or to undo, in the order of their starts, and the seconds until each begins.
SELECT id, state,
    CASE WHEN state = 'scheduled' THEN greatest(0, extract(epoch FROM starts_at - now()))::double precision END
        AS starts_in
FROM broadcast
WHERE bot_id = $1 AND state IN ('scheduled', 'running', 'undoing')
ORDER BY coalesce(started_at, starts_at), id
