"""The API."""

from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shop.database import engine
from shop.models import Order

REVISION = Path(__file__).parent.parent / "REVISION"
VERSION = REVISION.read_text().strip() if REVISION.exists() else "development"
app = FastAPI(title="Shop")


class NewOrder(BaseModel):
    customer: str
    total_cents: int
    voucher: str | None = None


class ShownOrder(NewOrder):
    model_config = ConfigDict(from_attributes=True)

    id: int


@app.get("/health")
def health() -> dict[str, str]:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return {"status": "up", "version": VERSION}


@app.get("/orders")
def orders() -> list[ShownOrder]:
    with Session(engine) as session:
        return [ShownOrder.model_validate(order) for order in session.scalars(select(Order).order_by(Order.id))]


@app.post("/orders", status_code=201)
def create(order: NewOrder) -> ShownOrder:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        made = Order(**order.model_dump())
        session.add(made)
        session.flush()
        return ShownOrder.model_validate(made)
