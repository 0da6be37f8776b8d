-- What is unknown of broadcast $1, and what a dead holder of its flight left in the air, is to be sent again.
-- How many chats; NULL: the flight is in a living hand, nothing is changed.
WITH grounded AS (
    SELECT broadcast_id, in_flight FROM flight
    WHERE broadcast_id = $1
      AND NOT EXISTS (SELECT FROM lease WHERE lease.id = flight.lease_id AND expires_at > now())
    FOR UPDATE
), taken AS (
    DELETE FROM delivery USING grounded
    WHERE delivery.broadcast_id = $1 AND outcome = 'unknown'
    RETURNING chat_id
), counted AS (
    SELECT count(*) AS chats, coalesce(array_agg(chat_id), '{}') AS ids FROM taken
)
UPDATE flight
SET later = later || grounded.in_flight || counted.ids, in_flight = '{}', lease_id = NULL,
    unknown = unknown - counted.chats
FROM grounded, counted
WHERE flight.broadcast_id = grounded.broadcast_id
RETURNING counted.chats + cardinality(grounded.in_flight)
