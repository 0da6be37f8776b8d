-- Drafts $1 of one submission with fingerprint $2 begin, or are scheduled for their time; channel $3 is told.
WITH started AS (
    UPDATE broadcast
    SET state = CASE WHEN starts_at > now() THEN 'scheduled' ELSE 'running' END,
        started_at = CASE WHEN starts_at > now() THEN NULL ELSE now() END,
        fingerprint = $2, loader = NULL, guess = NULL
    WHERE id = ANY ($1::bigint[]) AND state = 'draft'
    RETURNING id
)
SELECT id, pg_notify($3, id::text) FROM started
