-- A draft of bot $1 and its flight.
WITH made AS (
    INSERT INTO broadcast (bot_id, name, message, media, gate, per_second, starts_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    RETURNING id
)
INSERT INTO flight (broadcast_id) SELECT id FROM made RETURNING broadcast_id
