-- AlterTable
ALTER TABLE "parcels" ADD COLUMN "weight_grams" INTEGER;

-- What a size weighs at most, for the parcels that are there already.
UPDATE "parcels" SET "weight_grams" = CASE "size" WHEN 'S' THEN 2000 WHEN 'M' THEN 5000 WHEN 'L' THEN 10000 END;

-- CreateIndex
CREATE INDEX "parcels_sent_at_idx" ON "parcels"("sent_at");
