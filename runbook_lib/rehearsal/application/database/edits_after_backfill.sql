-- uploads added behind a backfilled picture
UPDATE messages
SET attachments = attachments || pg_temp.upload(id, 0), updated_at = created_at + interval '1 day'
WHERE id % 60 = 12;

UPDATE messages
SET attachments = attachments || pg_temp.upload(id, 0) || pg_temp.upload(id, 1),
    updated_at = created_at + interval '1 day'
WHERE id % 60 = 42;

-- a backfilled picture given a caption
UPDATE messages
SET attachments = jsonb_set(attachments, '{0,caption}', '"The one we talked about"'),
    updated_at = created_at + interval '2 days'
WHERE id % 60 = 18;

-- a backfilled picture replaced by another
UPDATE messages
SET attachments = jsonb_set(attachments, '{0,url}', pg_temp.upload(id, 0) -> 'url'),
    updated_at = created_at + interval '2 days'
WHERE id % 60 = 48;
