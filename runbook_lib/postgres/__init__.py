"""What the runbook asks of PostgreSQL: the only place that knows its SQL.

Its modules hand these around: rows, connections, and what opens a connection.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg

Row = dict[str, Any]
Connection = psycopg.Connection[Row]
Open = Callable[[], AbstractContextManager[Connection]]
