-- Claim media item $1 of bot $2 for a sender under lease $3, unless it is claimed. No row: it is claimed, or has a file
-- id.
UPDATE media AS m
SET lease_id = $3, state = 'warming', next_attempt_at = NULL,
    priority = CASE WHEN m.state = 'warming' THEN m.priority ELSE (1000 * extract(epoch FROM now()))::bigint END,
    queued_at = CASE WHEN m.state = 'warming' THEN m.queued_at ELSE now() END
FROM blob
WHERE m.id = $1 AND m.bot_id = $2 AND m.file_id IS NULL AND m.lease_id IS NULL AND blob.sha256 = m.sha256
  AND EXISTS (SELECT FROM lease WHERE lease.id = $3)
RETURNING m.id, m.kind, m.name, m.attempts, m.priority, m.queued_at,
          extract(epoch FROM now() - m.queued_at)::float8 AS waited,
          blob.sha256, blob.storage_key, blob.thumbnail_key, blob.thumbnail_bytes, blob.bytes, blob.mime, blob.ext,
          blob.width, blob.height, blob.duration, blob.video_codec, blob.audio_codec, blob.title, blob.performer,
          blob.streamable,
          NULL::bigint AS warmup_chat, NULL::bigint AS warmup_message_id
