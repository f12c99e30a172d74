"""The program `runbook`: a kernel that its command will need loads at the same time as the command itself."""

import gc
import sys

from runbook_lib.headless import kernel


def main() -> None:
    """Run the command line."""
    gc.set_threshold(kernel.GARBAGE)
    if sys.argv[1:2] == ["run"] and "--help" not in sys.argv:
        kernel.load_ahead()
    from runbook_lib import cli

    cli.main()


if __name__ == "__main__":
    main()
