-- Delete media items $1, which the caller has locked, and tell the caches that they are gone. Their blobs are orphans
-- from now on: whoever collects those looks whether anybody else has them. What is told has at most 8000 bytes: 200
-- items at once. How many of the blobs nobody else has, and their bytes.
WITH gone AS (
    DELETE FROM media WHERE id = ANY ($1::bigint[]) RETURNING id, sha256
), lost AS (
    SELECT sha256, count(*) AS items FROM gone GROUP BY sha256
), orphaned AS (
    INSERT INTO blob_tombstone (sha256, storage_key, thumbnail_key)
    SELECT blob.sha256, blob.storage_key, blob.thumbnail_key FROM lost JOIN blob USING (sha256) ORDER BY blob.sha256
    ON CONFLICT (sha256) DO UPDATE
    SET since = now(), collected_at = NULL, storage_key = EXCLUDED.storage_key, thumbnail_key = EXCLUDED.thumbnail_key
), listed AS (
    SELECT id || ':!' AS item, (row_number() OVER () - 1) / 200 AS chunk FROM gone
), told AS (
    SELECT pg_notify('telewarm_media', string_agg(item, ',')) FROM listed GROUP BY chunk
)
SELECT count(*) AS blobs, coalesce(sum(blob.bytes), 0)::bigint AS bytes, (SELECT count(*) FROM told) AS told
FROM lost JOIN blob USING (sha256)
WHERE lost.items = (SELECT count(*) FROM media WHERE media.sha256 = lost.sha256)
