"""What has to be undone before a step can be: the later steps that stand on the same thing, latest first. Pure."""

from collections.abc import Collection, Mapping

from runbook_lib.plan import BackupStep, RepositoryStep, RestoreAsideStep, ServicesStep, StepSpec, SwapDatabaseStep

DATABASE, RESTORED = "the database", "the database restored aside"


def touched(spec: StepSpec) -> set[str]:
    """The things that a step changes, or rests on; a backup changes nothing that another step rests on. Pure."""
    match spec:
        case ServicesStep():
            return {f"service {name}" for name in spec.services}
        case RepositoryStep():
            return {f"repository {spec.repository}"}
        case BackupStep():
            return set()
        case RestoreAsideStep():
            return {RESTORED}
        case SwapDatabaseStep():
            return {RESTORED, DATABASE}
        case _:
            return {DATABASE}


def to_be_undone_first(order: Mapping[str, StepSpec], name: str, standing: Collection[str]) -> list[str]:
    """The steps after `name` in `order` that stand, done or half done, and touch what `name` touches; latest first. Pure."""
    names = list(order)
    later = names[names.index(name) + 1 :]
    return [other for other in reversed(later) if other in standing and touched(order[other]) & touched(order[name])]
