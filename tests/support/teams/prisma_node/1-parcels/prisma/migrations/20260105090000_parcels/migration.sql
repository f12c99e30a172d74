-- CreateTable
CREATE TABLE "parcels" (
    "id" SERIAL NOT NULL,
    "address" TEXT NOT NULL,
    "size" TEXT NOT NULL,
    "sent_at" TIMESTAMP(3),

    CONSTRAINT "parcels_pkey" PRIMARY KEY ("id")
);
