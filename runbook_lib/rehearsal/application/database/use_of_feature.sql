CREATE FUNCTION pg_temp.upload(message bigint, number bigint) RETURNS jsonb IMMUTABLE
RETURN jsonb_build_object(
    'type', 'image',
    'url', '/media/upload-' || lpad((number * 1000000 + message)::text, 6, '0') || '.svg',
    'source', 'upload'
);

-- one upload: with a picture of old (6), and without (7, 37)
UPDATE messages SET attachments = jsonb_build_array(pg_temp.upload(id, 0)) WHERE id % 60 IN (6, 7, 37);

-- two uploads: with a picture of old (36), and without (22)
UPDATE messages
SET attachments = jsonb_build_array(pg_temp.upload(id, 0), pg_temp.upload(id, 1))
WHERE id % 60 IN (22, 36);

-- a client that writes null
UPDATE messages SET attachments = NULL WHERE id % 60 IN (10, 40);

-- replies to an earlier message of the same conversation
UPDATE messages SET replied_to_message_id = id - 1 - id % 4 WHERE id % 5 = 4 AND (id - 1) % 25 >= 4;
