-- Insert a blob, or complete a known one (thumbnail, sides), and a media item of it. No row: the item is there, and
-- warm or being warmed. A cold item or one in error is queued again. $17: its priority offset in ms. `orphaned`: the
-- blob has a tombstone: check that its object exists before this is committed.
WITH stored AS (
    INSERT INTO blob (sha256, bytes, mime, ext, width, height, duration, video_codec, audio_codec, title, performer,
                      storage_key, thumbnail_key, thumbnail_bytes, streamable)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $18, $19)
    ON CONFLICT (sha256) DO UPDATE
    SET thumbnail_key = coalesce(blob.thumbnail_key, EXCLUDED.thumbnail_key),
        thumbnail_bytes = coalesce(blob.thumbnail_bytes, EXCLUDED.thumbnail_bytes),
        mime = EXCLUDED.mime, ext = EXCLUDED.ext, width = EXCLUDED.width, height = EXCLUDED.height,
        duration = EXCLUDED.duration, video_codec = EXCLUDED.video_codec, audio_codec = EXCLUDED.audio_codec,
        title = EXCLUDED.title, performer = EXCLUDED.performer, streamable = EXCLUDED.streamable
    WHERE (blob.thumbnail_key IS NULL AND EXCLUDED.thumbnail_key IS NOT NULL)
       OR (blob.width IS NULL AND blob.duration IS NULL
           AND (EXCLUDED.width IS NOT NULL OR EXCLUDED.duration IS NOT NULL))
), needed AS (
    DELETE FROM blob_tombstone WHERE sha256 = $1 RETURNING 1
)
INSERT INTO media (bot_id, sha256, kind, name, priority, state, queued_at)
VALUES ($14, $1, $15, $16, (1000 * extract(epoch FROM now()))::bigint + $17::bigint, 'warming', now())
ON CONFLICT (sha256, kind, bot_id) DO UPDATE
SET state = 'warming', attempts = 0, next_attempt_at = NULL, queued_at = now(), priority = EXCLUDED.priority,
    last_error_code = NULL, last_error = NULL
WHERE media.state IN ('cold', 'error')
RETURNING media.*, xmax = 0 AS created, (SELECT count(*) > 0 FROM needed) AS orphaned
