-- migrate:up
ALTER TABLE products ADD fee int;

-- migrate:down
