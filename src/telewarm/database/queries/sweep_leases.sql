-- Free the rows of every lease that ran out. Returns how many.
WITH dead AS (
    DELETE FROM lease WHERE expires_at < now() RETURNING id
), freed AS (
    UPDATE media SET lease_id = NULL FROM dead WHERE media.lease_id = dead.id RETURNING media.id
)
SELECT count(*) FROM freed
