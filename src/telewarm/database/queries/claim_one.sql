-- A sender takes media item $1 of bot $2 in hand under lease $3, if nobody has it. No row: somebody has, or it is ready.
UPDATE media AS m
SET lease_id = $3, state = 'warming', next_attempt_at = NULL, queued_at = coalesce(m.queued_at, now())
FROM blob
WHERE m.id = $1 AND m.bot_id = $2 AND m.state <> 'ready' AND m.lease_id IS NULL AND blob.sha256 = m.sha256
  AND EXISTS (SELECT FROM lease WHERE lease.id = $3)
RETURNING m.id, m.kind, m.name, m.attempts, m.priority, m.queued_at,
          blob.sha256, blob.storage_key, blob.thumbnail_key, blob.bytes, blob.mime, blob.ext, blob.width, blob.height,
          blob.duration, blob.video_codec, blob.audio_codec, blob.title, blob.performer,
          NULL::bigint AS warmup_chat, NULL::bigint AS warmup_message_id
