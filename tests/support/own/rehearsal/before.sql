CREATE TABLE schema_migrations (version text PRIMARY KEY);
INSERT INTO schema_migrations VALUES ('001');
CREATE TABLE orders (id bigint PRIMARY KEY, cents bigint NOT NULL);
INSERT INTO orders SELECT n, 100 * n FROM generate_series(1, 50) n;
