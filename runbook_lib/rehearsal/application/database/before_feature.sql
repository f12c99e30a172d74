-- Message number n belongs to conversation (n - 1) / 25 + 1; all else it holds depends on n mod 60, 40 and 7.

INSERT INTO users (name)
SELECT 'User ' || n FROM generate_series(1, 40) n;

INSERT INTO conversations (title, created_at)
SELECT 'Conversation ' || n, timestamptz '2025-09-20 08:00Z' + n * interval '3 minutes'
FROM generate_series(1, (current_setting('rehearsal.rows')::bigint - 1) / 25 + 1) n
ORDER BY n;

INSERT INTO messages (conversation_id, sender_id, content, media_type, media_url, created_at, updated_at)
SELECT (n - 1) / 25 + 1,
       n * 7 % 40 + 1,
       (ARRAY['Have a look at this.', 'Is it still available?', 'Yes, it is.', 'Can you ship it this week?',
              'Tomorrow at the latest.', 'What colours do you have?', 'Thank you!'])[n * 5 % 7 + 1],
       CASE WHEN n % 3 = 0 THEN 'image' END,
       CASE WHEN n % 3 = 0 THEN '/media/' || lpad(n::text, 6, '0') || '.svg' END,
       timestamptz '2025-10-01 08:00Z' + n * interval '1 minute',
       timestamptz '2025-10-01 08:00Z' + n * interval '1 minute'
FROM generate_series(1, current_setting('rehearsal.rows')::bigint) n
ORDER BY n;
