"""Run an application on the table, by pgbench, and measure its longest stall."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import binaries, clean_environment

RATE = 150  # transactions a second
WARM_UP = 1.0  # seconds before the work under test begins
SCRIPT = """\\set id random(1, {rows})
SELECT content, media_url FROM messages WHERE id = :id;
UPDATE messages SET updated_at = now() WHERE id = :id;
INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'Thank you!');
"""


@dataclass
class Stalls:
    """The latencies that the application saw, in milliseconds; set when the traffic has ended."""

    latencies: list[float] = field(default_factory=list)

    @property
    def longest(self) -> float:
        """The longest wait of a transaction, in milliseconds."""
        return max(self.latencies)


@contextmanager
def traffic(database: Database, rows: int) -> Iterator[Stalls]:
    """Run 150 transactions a second on the database while the block runs; waiting in the queue counts."""
    seen = Stalls()
    parameters = database.parameters(database.application)
    environment = {**clean_environment(), "PGPASSWORD": parameters["password"]}
    with tempfile.TemporaryDirectory(prefix="traffic-") as directory:
        script = Path(directory) / "script.sql"
        script.write_text(SCRIPT.format(rows=rows))
        options = ["-n", "-c", "8", "-j", "1", "-R", str(RATE), "-T", "600", "-l", "--log-prefix", "log", "-f", str(script)]
        where = ["-h", parameters["host"], "-p", parameters["port"], "-U", parameters["user"], parameters["dbname"]]
        with open(Path(directory) / "output", "wb") as output:
            running = subprocess.Popen(
                [str(binaries() / "pgbench"), *options, *where],
                cwd=directory,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                time.sleep(WARM_UP)
                yield seen
                time.sleep(WARM_UP)
                if running.poll() is not None:
                    raise RuntimeError((Path(directory) / "output").read_text())
            finally:
                running.terminate()
                running.wait()
        for log in Path(directory).glob("log*"):
            lines = [line.split() for line in log.read_text().splitlines()[:-1]]
            seen.latencies += [int(fields[2]) / 1000 for fields in lines if len(fields) >= 6 and fields[2].isdigit()]
