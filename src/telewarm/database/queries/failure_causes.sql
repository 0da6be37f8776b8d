-- For each of the broadcasts $1: its $2 most frequent causes of errors, among its first $3 errors. A cause is an
-- outcome and a text, whatever numbers are in it, such as the chat's; with the number of recipients, and the first as
-- an example.
SELECT broadcast_id, outcome, chats, chat_id, error
FROM (
    SELECT broadcast_id, outcome, count(*) AS chats, min(chat_id) AS chat_id,
        (array_agg(error ORDER BY chat_id))[1] AS error,
        row_number() OVER (PARTITION BY broadcast_id ORDER BY count(*) DESC, min(chat_id)) AS place
    FROM unnest($1::bigint[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT broadcast_id, outcome, chat_id, error, regexp_replace(error, '-?[0-9]+', '#', 'g') AS cause
        FROM delivery
        WHERE broadcast_id = wanted.id AND error IS NOT NULL
        LIMIT $3
    ) AS refused
    GROUP BY broadcast_id, outcome, cause
) AS causes
WHERE place <= $2
ORDER BY broadcast_id, place
