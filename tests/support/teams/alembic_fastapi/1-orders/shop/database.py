"""The database, where DATABASE_URL says."""

import os

from sqlalchemy import create_engine

engine = create_engine(os.environ.get("DATABASE_URL", "postgresql+psycopg://"), pool_pre_ping=True)
