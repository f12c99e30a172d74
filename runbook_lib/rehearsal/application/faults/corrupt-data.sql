-- A job that wrote attachments wrongly: no list, and lists of things that are no objects.
UPDATE messages SET attachments = '{"broken": true}' WHERE id % 9 = 0;
UPDATE messages SET attachments = '["broken"]' WHERE id % 9 = 3;
