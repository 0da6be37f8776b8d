-- The next $3 recipients of broadcast $1 after chat $2 without an outcome: in flight, to be retried, or not yet read.
SELECT chat_id
FROM (
    SELECT chat_id
    FROM broadcast_run CROSS JOIN LATERAL unnest(in_flight || retry_chat_ids) AS taken (chat_id)
    WHERE broadcast_id = $1 AND chat_id > $2
    UNION ALL
    (
        SELECT chat_id FROM recipient
        WHERE broadcast_id = $1
          AND chat_id > greatest($2, coalesce((SELECT cursor FROM broadcast_run WHERE broadcast_id = $1), $2))
        ORDER BY chat_id
        LIMIT $3
    )
) AS left_over
ORDER BY chat_id
LIMIT $3
