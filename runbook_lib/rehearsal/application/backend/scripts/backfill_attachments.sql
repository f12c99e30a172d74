UPDATE messages
SET attachments = coalesce(attachments, '[]'::jsonb) || jsonb_build_array(
    jsonb_build_object('type', media_type, 'url', media_url, 'source', 'legacy_migration')
)
WHERE media_url IS NOT NULL
  AND NOT coalesce(attachments, '[]'::jsonb) @> '[{"source": "legacy_migration"}]'::jsonb;
