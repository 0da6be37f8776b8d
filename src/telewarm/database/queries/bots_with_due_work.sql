-- Bots whose lane has work that is due; $1: only these, or all when it is NULL. Paused and deleted bots are left out.
-- ORDER BY … LIMIT 1 instead of EXISTS: one index lookup a bot, however much is due.
SELECT bot.id, bot.slug
FROM bot
WHERE ($1::bigint[] IS NULL OR bot.id = ANY ($1))
  AND bot.paused_at IS NULL AND bot.deleted_at IS NULL AND (bot.paused_until IS NULL OR bot.paused_until <= now())
  AND (
      (
          SELECT true FROM media
          WHERE media.bot_id = bot.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NULL
          ORDER BY priority, id
          LIMIT 1
      )
      OR (
          SELECT true FROM media
          WHERE media.bot_id = bot.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at <= now()
          ORDER BY next_attempt_at
          LIMIT 1
      )
      OR (
          SELECT true FROM broadcast
          WHERE broadcast.bot_id = bot.id AND state IN ('scheduled', 'running', 'undoing')
            AND (state <> 'scheduled' OR starts_at <= now())
          LIMIT 1
      )
  )
