"""Which code may run on which schema and data: what steps make of it, by the plan's compatibility table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

FEATURE, BEFORE, STOPPED = "feature", "before", "stopped"

Sides = frozenset[str]  # what may be the case; more than one where it is not known, or is both
Database = frozenset[tuple[str, str]]  # schema and data
BOTH: Sides = frozenset({FEATURE, BEFORE})


class Combined(Protocol):
    """What of a plan decides which combinations there are, and which are allowed."""

    @property
    def combinations(self) -> frozenset[tuple[str, str, str]]:
        """The allowed combinations of code, schema and data."""

    @property
    def needs(self) -> Sequence[Any]:
        """Which service needs which version of another."""

    @property
    def repositories(self) -> Mapping[str, Any]:
        """The repositories by name."""

    @property
    def services(self) -> Sequence[str]:
        """The names of the services."""

    @property
    def steps(self) -> Mapping[str, Any]:
        """The steps by name."""

    @property
    def types(self) -> Mapping[str, Any]:
        """The rollback types by name."""

    def steps_of(self, type_name: str, option: str) -> list[str]:
        """Return the steps of a type with an option, in order."""


@dataclass(frozen=True)
class State:
    """What may be the case of database, code and services."""

    database: Database
    code: Mapping[str, Sides]  # repository -> what is checked out
    built: Mapping[str, Sides]  # repository -> what is built
    running: Mapping[str, Sides]  # service -> what it runs, or "stopped"
    let_in: frozenset[bool]  # whether the application can connect to the database

    def or_else(self, other: State) -> State:
        """Return what may be the case where it is not known which of two is."""
        return State(
            self.database | other.database,
            {name: self.code[name] | other.code[name] for name in self.code},
            {name: self.built[name] | other.built[name] for name in self.built},
            {name: self.running[name] | other.running[name] for name in self.running},
            self.let_in | other.let_in,
        )


@dataclass(frozen=True)
class StepEffect:
    """A step whose effect is there, wholly or in part, and whether the run that looks did it itself."""

    step: str
    whole: bool = True
    own: bool = True


@dataclass(frozen=True)
class Rules:
    """The plan, which service is built from which repository, and the schema that a restored backup brings."""

    plan: Combined
    built_from: Mapping[str, str]
    restored: Sides = BOTH
    begins: State | None = None  # where a fleet's other runs have changed what this one begins with

    @property
    def allowed(self) -> frozenset[tuple[str, str, str]]:
        """The plan's table: code, schema and data."""
        return self.plan.combinations

    def beginning(self) -> State:
        """Return the state before any step: the release with the feature, but for what a fleet's other runs did."""
        if self.begins:
            return self.begins
        code = dict.fromkeys(self.plan.repositories, frozenset({FEATURE}))
        running = dict.fromkeys(self.plan.services, frozenset({FEATURE}))
        return State(frozenset({(FEATURE, FEATURE)}), code, code, running, frozenset({True}))

    def state(self, standing: Iterable[StepEffect]) -> State:
        """Return what some steps, in the order in which they were begun, have made of it."""
        state = self.beginning()
        for one in standing:
            made = self.after(state, one.step)
            state = made if one.whole else state.or_else(made)
        return state

    def after(self, state: State, step: str) -> State:
        """What a step makes of a state."""
        made: State = self.plan.steps[step].after(state, self)
        return made

    def built(self, state: State, service: str) -> Sides:
        """Return what a service would run if it were started in a state. Pure."""
        return state.built.get(self.built_from.get(service, ""), BOTH)

    def after_undo(self, standing: Iterable[StepEffect], step: str) -> State:
        """Return what undoing one of the standing steps makes of it; services are started with what is built by then."""
        left = list(standing)
        state = self.state(one for one in left if one.step != step)
        spec: Any = self.plan.steps[step]
        if not spec.about.starts_on_undo:
            return state
        before = self.state(left)
        started = {name: self.built(before, name) for name in spec.services}
        return replace(state, running={**state.running, **started})

    def forbidden(self, state: State) -> list[str]:
        """Return the combinations outside the table, and the needs unmet, that would run, a sentence each."""
        return [
            f"{service} would run {_code(code)} on the schema {_of(schema)} and data {_of(data)}"
            for service, sides in state.running.items()
            for code in sorted(sides - {STOPPED})
            for schema, data in sorted(state.database)
            if (code, schema, data) not in self.allowed
        ] + self._unmet(state)

    def _unmet(self, state: State) -> list[str]:
        """The services that would run with another in a version that they cannot use; one that is stopped is no version."""
        return [
            f"{need.service} would run {_code(need.code)} with {need.needs} on {_code(other)}"
            for need in self.plan.needs
            if need.code in state.running.get(need.service, ())
            for other in sorted(state.running.get(need.needs, frozenset()) - {STOPPED, need.version})
        ]

    def refusal(self, before: State, after: State) -> str:
        """Return why going from one state to another is refused, "" where it is not: nothing forbidden may be added."""
        known = self.forbidden(before)
        return "; ".join(text for text in self.forbidden(after) if text not in known)

    def serves(self, state: State) -> bool:
        """Check whether every service surely runs, is let in, and runs in a combination that the table allows."""
        up = all(STOPPED not in sides for sides in state.running.values())
        return up and state.let_in == {True} and not self.forbidden(state)


def alone(plan: Combined, changes: Iterable[str]) -> str:
    """Return why changing only these ("data", "schema", repositories) leaves what must not run, "" where it does not."""
    changed = set(changes)
    schema = BEFORE if "schema" in changed else FEATURE
    data = BEFORE if changed & {"data", "schema"} else FEATURE  # data live in the schema's columns
    sides = {name: frozenset({BEFORE if name in changed else FEATURE}) for name in plan.repositories}
    return _of_repositories(plan, sides, frozenset({(schema, data)}))


def contradictions(plan: Combined) -> dict[str, str]:
    """Return what types and compatibility table say against one another, by the names of the types. Pure."""
    rules, found = Rules(plan, {}), {}
    for name, kind in plan.types.items():
        if kind.carried_out_as and not alone(plan, kind.changes):
            found[name] = (
                f"types.{name} is executed as {kind.carried_out_as}, though the compatibility table allows to change "
                f"{' and '.join(kind.changes)} alone"
            )
        for option in [] if kind.in_fleet else list(kind.options) or ([""] if kind.steps else []):
            end = rules.state(StepEffect(step) for step in plan.steps_of(name, option))
            if why := _of_repositories(plan, end.code, end.database):
                how = f" with option {option}" if option else ""
                found.setdefault(name, f"types.{name}{how} ends where the compatibility table does not allow it: {why}")
    return found


def _of_repositories(plan: Combined, code: Mapping[str, Sides], database: Database) -> str:
    """Return what the table does not allow, taking each repository for a service of its own."""
    rules = Rules(plan, {})
    return "; ".join(rules.forbidden(State(database, code, code, code, frozenset({True}))))


def _code(side: str) -> str:
    return "the feature's code" if side == FEATURE else "the code from before"


def _of(side: str) -> str:
    return "with the feature" if side == FEATURE else "from before"
