-- AlterTable
ALTER TABLE "parcels" ADD COLUMN "depot" TEXT;
