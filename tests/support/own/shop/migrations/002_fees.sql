ALTER TABLE orders ADD COLUMN fee bigint;
UPDATE orders SET fee = cents / 10;
