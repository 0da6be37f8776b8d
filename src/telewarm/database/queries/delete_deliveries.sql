-- Delete up to $2 rows of each table that holds the recipients and results of broadcast $1; how many in all.
WITH outcomes AS (
    DELETE FROM delivery
    WHERE broadcast_id = $1
      AND chat_id = ANY (ARRAY(SELECT chat_id FROM delivery WHERE broadcast_id = $1 ORDER BY chat_id LIMIT $2))
    RETURNING 1
), recipients AS (
    DELETE FROM recipient
    WHERE broadcast_id = $1
      AND chat_id = ANY (ARRAY(SELECT chat_id FROM recipient WHERE broadcast_id = $1 ORDER BY chat_id LIMIT $2))
    RETURNING 1
), lines AS (
    DELETE FROM rejected
    WHERE id = ANY (ARRAY(SELECT id FROM rejected WHERE broadcast_id = $1 ORDER BY id LIMIT $2))
    RETURNING 1
)
SELECT (SELECT count(*) FROM outcomes) + (SELECT count(*) FROM recipients) + (SELECT count(*) FROM lines)
