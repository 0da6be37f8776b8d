-- Items of bot $1, newest first, at most $12 of those that match filters $5 to $11, among the first $4 with ids below
-- $2 and not below $3. Rows are compared as pairs, as the library's indexes need it, whatever the statistics say.
SELECT {columns}
FROM (
    SELECT *
    FROM ({source} ORDER BY bot_id DESC, id DESC LIMIT $4) AS looked
    WHERE ($5::text IS NULL OR kind = $5) AND ($6::text IS NULL OR state = $6)
      AND ($7::text IS NULL OR last_error_code = $7) AND ($8::text IS NULL OR sha256 = $8)
      AND ($9::timestamptz IS NULL OR created_at >= $9) AND ($10::timestamptz IS NULL OR created_at < $10)
      AND ($11::text IS NULL OR strpos(lower(name), lower($11)) > 0)
    ORDER BY bot_id DESC, id DESC
    LIMIT $12
) AS media
JOIN blob USING (sha256)
ORDER BY media.bot_id DESC, media.id DESC
