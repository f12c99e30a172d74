"""The connection to a kernel that runs already, and the orders sent to it."""

import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner


class Manager(AsyncKernelManager):
    """The manager of one kernel, whose process waits for its orders; its sockets are in a directory of its own."""

    def __init__(self, process: subprocess.Popen[bytes], orders: Mapping[str, Any], directory: Path) -> None:
        super().__init__(
            kernel_name="python3", transport="ipc", ip=f"{directory}/kernel", connection_file=f"{directory}/connection.json"
        )
        self._waiting = process, orders

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        process, orders = self._waiting
        assert isinstance(self.provisioner, LocalProvisioner)
        assert process.stdin
        self.provisioner.process, self.provisioner.pid, self.provisioner.pgid = process, process.pid, process.pid
        with suppress(BrokenPipeError):  # it has ended, which is noticed where it does not answer
            process.stdin.write(json.dumps({**orders, "connection_file": self.connection_file}).encode() + b"\n")
            process.stdin.close()
        self._reconcile_connection_info(self.provisioner.connection_info)
