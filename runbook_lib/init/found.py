"""What a finder says of a team's repository, and where it read that."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SKIPPED = {"node_modules", "vendor", "venv", "dist", "build"}


@dataclass(frozen=True)
class Service:
    """A program of the team's that runs: its name, the shell line that starts it, and the port it listens on."""

    name: str
    command: str = ""
    port: int | None = None


@dataclass(frozen=True)
class Migrations:
    """How a repository migrates its database; `to` is the command that goes to {version}, where the tool has one."""

    tool: str  # as plans name it
    directory: str
    command: Sequence[str]
    to: Sequence[str] = ()


@dataclass(frozen=True)
class Found:
    """What one file says; what it does not say is empty."""

    where: str  # the file, below the team's folder
    manager: str = ""  # of services, as targets name it
    services: Sequence[Service] = ()
    unmanaged: Sequence[str] = ()  # what the manager runs that the team does not build
    install: Sequence[str] = ()
    installs_into: str = ""  # where that puts packages, if it is not the checkout, or not so that they can move with it
    build: Sequence[str] = ()
    role: str = ""  # that the services connect with
    port: int | None = None
    variables: Sequence[str] = ()  # names of environment variables that the services need
    database_variable: str = ""  # that of them which holds the database's address
    scheme: str = ""  # of that address, as postgresql+psycopg
    health: str = ""  # the path at which a service says that it is well
    migrations: Migrations | None = None

    @property
    def words(self) -> str:
        """What it says, in one line."""
        said = {
            "services": ", ".join(each.name for each in self.services),
            "under": self.manager if self.services else "",
            "not built here": ", ".join(self.unmanaged),
            "install": " ".join(self.install),
            "build": " ".join(self.build),
            "role": self.role,
            "port": str(self.port or ""),
            "variables": ", ".join(self.variables),
            "health": self.health,
            "migrations": f"{self.migrations.tool} in {self.migrations.directory}" if self.migrations else "",
        }
        return "; ".join(f"{name} {value}" for name, value in said.items() if value)


@dataclass(frozen=True)
class Folder:
    """A team's repository, of which finders read files."""

    path: Path

    def files(self, *names: str) -> list[tuple[str, str]]:
        """Return the files of some names at the top, else those one folder below, each with its text. Read-only."""
        for below in ("", "*/"):
            found = {path for name in names for path in self.path.glob(below + name) if self._counts(path)}
            if found:
                return [(str(path.relative_to(self.path)), path.read_text(errors="replace")) for path in sorted(found)]
        return []

    def _counts(self, path: Path) -> bool:
        parent = path.relative_to(self.path).parent.name
        return path.is_file() and not (parent.startswith(".") or parent in SKIPPED)


def within(where: str, command: Sequence[str]) -> Sequence[str]:
    """Return a command as it runs from the top of the repository, where its file is below it. Pure."""
    parent = Path(where).parent
    return command if parent == Path() or not command else ["sh", "-c", f"cd {parent} && {' '.join(command)}"]
