-- Bots for which a lane would find something to do now; $1: only these, or all when it is NULL.
SELECT bot.id, bot.slug
FROM bot
WHERE ($1::bigint[] IS NULL OR bot.id = ANY ($1))
  AND (bot.paused_until IS NULL OR bot.paused_until <= now())
  AND (
      EXISTS (
          SELECT FROM media
          WHERE media.bot_id = bot.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at IS NULL
      )
      OR EXISTS (
          SELECT FROM media
          WHERE media.bot_id = bot.id AND state = 'warming' AND lease_id IS NULL AND next_attempt_at <= now()
      )
  )
