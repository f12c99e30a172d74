VACUUM (ANALYZE) messages;
