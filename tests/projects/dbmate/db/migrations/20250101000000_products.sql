-- migrate:up
CREATE TABLE products (id int PRIMARY KEY);

-- migrate:down
