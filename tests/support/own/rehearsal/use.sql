INSERT INTO orders VALUES (51, 5100, 7);
UPDATE orders SET fee = 9 WHERE id = 1;
