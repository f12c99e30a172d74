"""What the tenants of a fleet share: a git checkout and a service, which is a file that holds the version it runs."""

import subprocess
from copy import deepcopy
from typing import Any

import yaml

from runbook_lib.rehearsal.tenants import PLAN, Tenants

from .repository import Repository

BOTH = [("feature", "feature", "feature"), ("before", "feature", "before")]
OLD_ON_NEW, NEW_ON_OLD = ("before", "feature", "feature"), ("feature", "feature", "before")
CODE = {
    "title": "The code that all tenants share",
    "in_fleet": True,
    "steps": ["stop-services", "revert-code", "build-code", "start-services"],
    "checks": ["services-running"],
}
PER_TARGET = {"services": [], "repositories": None, "types": {"code": None}}


class SharedCode:
    """The checkout with the feature, and the service that runs it."""

    def __init__(self, shops: Tenants) -> None:
        self.shops, self.root = shops, shops.root
        (self.root / "services").mkdir()
        repository = Repository(self.root / "code")
        repository.change("app.js", "old", "Show orders")
        self.new = repository.change("app.js", "new", "SHOP-77: show the channel")
        self.start()

    def start(self) -> None:
        """Start the service in the version that is checked out."""
        subprocess.run(["sh", "-c", self.starting.format(service="web")], cwd=self.root / "services", check=True)

    @property
    def starting(self) -> str:
        """The shell command that starts a service; a file `broken` keeps it from starting."""
        return f"test ! -e ../broken && echo version $(git -C {self.root}/code rev-parse HEAD) > {{service}}"

    def text(self) -> str:
        """The file of the checkout."""
        command = ["git", "-C", str(self.root / "code"), "show", "HEAD:app.js"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def running(self) -> str:
        """The commit that the service runs, "" where it is stopped."""
        file = self.root / "services" / "web"
        return file.read_text().split()[-1] if file.exists() else ""

    def keys(self, when: str, *allowed: tuple[str, str, str]) -> dict[str, Any]:
        """Write plan and target of what is shared; return the keys of the fleet file."""
        plan = deepcopy(PLAN)
        rows = [dict(zip(("code", "schema", "data"), row, strict=True)) for row in (*BOTH, *allowed)]
        plan |= {"services": ["web"], "repositories": {"code": {}}, "compatibility": rows}
        plan["types"] = {"full": {**plan["types"]["full"], "in_fleet": True}, "code": CODE}
        (self.root / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
        target = self.root / "shared.yaml"
        target.write_text(yaml.safe_dump(self._target(), sort_keys=False))
        return {"per_target": PER_TARGET, "shared": {"target": str(target), "type": "code", "when": when}}

    def _target(self) -> dict[str, Any]:
        target = yaml.safe_load((self.root / "template.yaml").read_text().replace("{target.name}", self.shops.names[0]))
        commands = {
            "list": ["ls", "."],
            "running": ["sh", "-c", "test -e {service} && echo up || true"],
            "stop": ["rm", "-f", "{service}"],
            "start": ["sh", "-c", self.starting],
            "logs": ["cat", "{service}"],
        }
        services = {
            "directory": str(self.root / "services"),
            "timeout": 2,
            "commands": commands,
            "versions": {"web": {"log": "version (.*)"}},
            "built_from": {"web": "code"},
        }
        target["name"] = "shop-code"
        target["services"] |= services
        target["repositories"] = {"code": {"path": str(self.root / "code"), "build": ["true"]}}
        return target
