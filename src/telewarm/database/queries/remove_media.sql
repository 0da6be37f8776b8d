-- Delete media items $1, which the caller has locked, and notify the caches. Their blobs get tombstones: the garbage
-- collector checks whether other items refer to them. A notification has at most 8000 bytes: 200 items at once. Returns
-- the number of blobs that no other item refers to, and their bytes.
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
), notified AS (
    SELECT pg_notify('telewarm_media', string_agg(item, ',')) FROM listed GROUP BY chunk
)
SELECT count(*) AS blobs, coalesce(sum(blob.bytes), 0)::bigint AS bytes, (SELECT count(*) FROM notified) AS notified
FROM lost JOIN blob USING (sha256)
WHERE lost.items = (SELECT count(*) FROM media WHERE media.sha256 = lost.sha256)
