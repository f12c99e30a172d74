"""The shell of a CI file, run as its service runs it: the steps of a GitHub Actions job, or the script of a GitLab job."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

GITHUB, GITLAB = ".github/workflows/rollback-rehearsal.yml", ".gitlab-ci.yml"
GIVEN = {"python -m pip install": "true"}  # what a machine without a network has already


@dataclass(frozen=True)
class Job:
    """A job on a clone of the repository, before it is run."""

    clone: Path
    environment: Mapping[str, str]
    base: str = "main"
    given: Mapping[str, str] = field(default_factory=lambda: GIVEN)  # the beginning of a command -> what is run instead

    def run(self, file: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, or to the first step that fails."""
        described = yaml.safe_load((self.clone / file).read_text())
        return self._github(described) if "jobs" in described else self._gitlab(described)

    def _github(self, described: Mapping[str, Any]) -> "subprocess.CompletedProcess[str]":
        (job,) = described["jobs"].values()
        written = self.clone.with_name(f"{self.clone.name}.env")
        written.touch()
        own = _filled(job["env"], r"\$\{\{ *(\S+) *\}\}", {"github.base_ref": self.base})
        done = subprocess.CompletedProcess[str]([], 0, "", "")
        for step in job["steps"]:
            if "run" in step and done.returncode == 0:
                more = dict(line.split("=", 1) for line in written.read_text().splitlines())
                done = self._shell(step["run"], {**own, **more, "GITHUB_ENV": str(written)}, done.stdout)
        return done

    def _gitlab(self, described: Mapping[str, Any]) -> "subprocess.CompletedProcess[str]":
        (job,) = [each for each in described.values() if isinstance(each, dict) and "script" in each]
        base = ["git", "merge-base", f"origin/{self.base}", "HEAD"]
        released = subprocess.run(base, cwd=self.clone, capture_output=True, text=True, check=True).stdout.strip()
        predefined = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": released}
        own = _filled(job["variables"], r"\$(\w+)", predefined)
        return self._shell("\n".join(["set -o pipefail", *job["script"]]), {**predefined, **own}, "")

    def _shell(self, text: str, more: Mapping[str, str], before: str) -> "subprocess.CompletedProcess[str]":
        for beginning, instead in self.given.items():
            text = re.sub(rf"^{re.escape(beginning)}\b.*$", instead, text, flags=re.MULTILINE)
        environment = {**os.environ, **self.environment, **more}
        done = subprocess.run(["bash", "-e", "-c", text], cwd=self.clone, env=environment, capture_output=True, text=True)
        return subprocess.CompletedProcess(done.args, done.returncode, before + done.stdout, done.stderr)


def _filled(variables: Mapping[str, str], pattern: str, known: Mapping[str, str]) -> dict[str, str]:
    """Variables of a CI file with what the service puts into them."""
    return {name: re.sub(pattern, lambda found: known[found[1]], value) for name, value in variables.items()}
