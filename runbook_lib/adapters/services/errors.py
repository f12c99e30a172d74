"""What goes wrong with services, worded alike for every manager."""

from runbook_lib.errors import AdapterError


def unknown_service(name: str, where: str) -> AdapterError:
    """The manager knows no such service."""
    return AdapterError(
        f"The service manager knows no service {name}.",
        where=where,
        state="Nothing was changed.",
        safe_next="Mend the name in the plan or in the manager's configuration.",
    )


def unreachable(name: str, where: str, reason: str) -> AdapterError:
    """The manager did not answer."""
    return AdapterError(
        f"The service manager did not answer about {name}: {reason}.",
        where=where,
        state=f"Whether {name} runs is unknown.",
        safe_next="Make sure that the manager runs and that you may use it; do not take the service for stopped.",
    )


def refused(name: str, where: str, reason: str) -> AdapterError:
    """The manager answered, but would not do what was asked."""
    return AdapterError(
        f"The service manager refused what was asked about {name}: {reason}.",
        where=where,
        state="Nothing more was asked of it.",
        safe_next="Mend what it names, then try again.",
    )


def not_stopped(name: str, where: str, timeout: float, state: str) -> AdapterError:
    """The service did not stop in time."""
    return AdapterError(
        f"{name} did not stop within {timeout:g} s.",
        where=where,
        state=f"The manager says: {state}. It may still be writing.",
        safe_next="Change no data under it; stop it by hand, or stop it here once more.",
    )


def not_started(name: str, where: str, reason: str) -> AdapterError:
    """The service did not start."""
    return AdapterError(
        f"{name} did not start.",
        where=where,
        state=f"The manager says: {reason}.",
        safe_next="Read its log, mend the cause, and start it again.",
    )


def no_log(name: str, where: str, reason: str) -> AdapterError:
    """The log cannot be read."""
    return AdapterError(
        f"The log of {name} cannot be read: {reason}.",
        where=where,
        state="Nothing was changed; whether it holds errors is unknown.",
        safe_next="Make sure that the service logs to a file that you may read.",
    )


def no_version(name: str, where: str, reason: str) -> AdapterError:
    """The manager does not tell what runs."""
    return AdapterError(
        f"The service manager does not tell which version of {name} runs: {reason}.",
        where=where,
        state="Nothing was changed; what the service runs is unknown.",
        safe_next="Start the service; or say under versions in the target how it tells its version itself.",
    )


def no_list(where: str, reason: str) -> AdapterError:
    """The manager did not say what it runs."""
    return AdapterError(
        f"The service manager did not answer what it runs: {reason}.",
        where=where,
        state="Whether anything runs is unknown.",
        safe_next="Make sure that the manager runs and that you may use it; do not take its services for stopped.",
    )
