-- Digest of the recipients of broadcast $1, whatever their order: their number and two sums of hashes.
SELECT count(*), coalesce(sum(hashint8extended(chat_id, 1)::numeric), 0)::text,
    coalesce(sum(hashint8extended(chat_id, 2)::numeric), 0)::text
FROM recipient
WHERE broadcast_id = $1
