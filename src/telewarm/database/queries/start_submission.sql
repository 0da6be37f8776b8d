-- Start drafts $1 of one submission with fingerprint $2, or schedule them for their time; channel $3 is notified.
WITH started AS (
    UPDATE broadcast
    SET state = CASE WHEN starts_at > now() THEN 'scheduled' ELSE 'running' END,
        started_at = CASE WHEN starts_at > now() THEN NULL ELSE now() END,
        fingerprint = $2, loader = NULL, guess = NULL
    WHERE id = ANY ($1::bigint[]) AND state = 'draft'
    RETURNING id
)
SELECT id, pg_notify($3, id::text) FROM started
