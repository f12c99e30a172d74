CREATE INDEX idx_messages_conversation ON messages (conversation_id, id);
