CREATE TABLE orders (id bigint PRIMARY KEY, cents bigint NOT NULL);
