-- Pause every active broadcast for reason $1, where {id} stands for its id, and notify channel $2. The database gets a
-- new generation. Returns the number of broadcasts.
WITH renewed AS (
    INSERT INTO installation AS mine (cluster_id, database_oid, timeline) VALUES (NULL, NULL, NULL)
    ON CONFLICT (one) DO UPDATE
    SET generations = mine.generations || mine.generation, generation = gen_random_uuid(),
        progress = mine.progress + 1, cluster_id = NULL, database_oid = NULL, timeline = NULL
    RETURNING one
), paused AS (
    UPDATE broadcast SET state = 'paused', reason = replace($1, '{id}', id::text)
    FROM renewed
    WHERE state IN ('running', 'scheduled')
    RETURNING id
)
SELECT count(pg_notify($2, id::text)) FROM paused
