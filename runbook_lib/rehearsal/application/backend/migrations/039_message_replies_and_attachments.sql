ALTER TABLE messages
    ADD COLUMN attachments jsonb DEFAULT '[]'::jsonb,
    ADD COLUMN replied_to_message_id bigint,
    ADD CONSTRAINT fk_messages_replied_to_message
        FOREIGN KEY (replied_to_message_id) REFERENCES messages (id) ON DELETE SET NULL;

CREATE INDEX idx_messages_replied_to ON messages (replied_to_message_id);
CREATE INDEX idx_messages_attachments ON messages USING gin (attachments jsonb_path_ops);
