-- migrate:up
ALTER TABLE products ADD name text;

-- migrate:down
