UPDATE messages SET attachments = '[]'::jsonb WHERE id % 60 IN (9, 30, 51);
