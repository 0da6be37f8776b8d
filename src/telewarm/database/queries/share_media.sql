-- Copy media items $2 into the library of bot $1, due with priority offsets $3 (ms). Those that it has stay.
INSERT INTO media (bot_id, sha256, kind, name, priority, state, queued_at)
SELECT $1, source.sha256, source.kind, source.name,
       (1000 * extract(epoch FROM now()))::bigint + asked.handicap, 'warming', now()
FROM unnest($2::bigint[], $3::bigint[]) AS asked (id, handicap)
JOIN media AS source ON source.id = asked.id
ORDER BY source.id
ON CONFLICT (sha256, kind, bot_id) DO NOTHING
RETURNING id
