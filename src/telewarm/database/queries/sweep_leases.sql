-- Delete expired leases, and release every row that no living lease holds. Returns how many.
WITH ended AS (
    DELETE FROM lease WHERE expires_at < now()
), orphaned AS (
    SELECT media.id FROM media
    WHERE media.lease_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM lease WHERE lease.id = media.lease_id AND lease.expires_at >= now())
    FOR NO KEY UPDATE OF media SKIP LOCKED
), freed AS (
    UPDATE media SET lease_id = NULL FROM orphaned WHERE media.id = orphaned.id RETURNING media.id
)
SELECT count(*) FROM freed
