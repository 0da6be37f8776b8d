-- Insert a draft of bot $1 and its run; lease $8, if any, loads it to send it as a whole, $9 is its idempotency key.
WITH made AS (
    INSERT INTO broadcast (bot_id, name, message, media, gate, per_second, starts_at, loader, key, key_hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING id
)
INSERT INTO broadcast_run (broadcast_id) SELECT id FROM made RETURNING broadcast_id
