"""What teams do to a history: each move takes two numbers, by which it chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .histories import BASE_LINES, FEATURE, MAIN, OTHERS, SHARED, History, Line, Made, State, combined

Operation = Callable[[History, int, int], object]
SUBJECTS = (
    ("{id}: {text}", ""), ("feat: {id} {text}", ""), ("fix({id}): {text}", ""), ("[{id}] {text}", ""), ("{text} ({id})", ""),
    ("{low} {text}", ""), ("{text}", "Refs: {id}"), ("{text}", "{id}"), ("feat(api)!: {id} {text}", "More words on it."),
)  # fmt: skip


def said(n: int, ticket: str, text: str) -> tuple[str, str]:
    """A message that names a ticket in one of the ways in which teams do."""
    subject, body = SUBJECTS[n % len(SUBJECTS)]
    words = {"id": ticket, "low": ticket.lower() if ticket == FEATURE else f"{ticket}:", "text": text}
    return subject.format(**words), body.format(**words)


def lines(h: History, n: int, ours: bool, *, shared: bool) -> list[Line]:
    """One to three new lines, in a file of their own or at one place of a shared one."""
    number = h.next()
    who = "feature" if ours else "other"
    file = SHARED[n % len(SHARED)] if shared else f"{who}/f{number}.js"
    at = (n // 3 % BASE_LINES) + (number + 1) / 10_000 if shared else 0.0
    return [Line(file, at + k / 1_000_000, f"{who}_{number}_{k}();", ours) for k in range(1 + n % 3)]


def replaced(h: History, n: int, ours: bool, branch: str) -> tuple[list[Line], list[Line]]:
    """A line of the beginning, with what takes its place; nobody else ever touches that line."""
    free = sorted((x for x in h.tip(branch).state.lines - h.touched if x.text.startswith("const")), key=lambda x: x.text)
    if not free:
        return [], []
    line = free[n % len(free)]
    h.touched.add(line)
    new = Line(line.file, line.key, f"{'feature' if ours else 'other'}_{h.next()} = {line.text[6:]}", ours)
    return [line], [] if n % 4 == 0 else [new]


def change(h: History, branch: str, a: int, b: int, ours: bool, ticket: str) -> None:
    remove: list[Line] = []
    add = lines(h, b, ours, shared=a % 2 == 0) if a % 5 else []
    if a % 5 == 0 or a % 7 == 0:
        remove, more = replaced(h, b, ours, branch)
        add = [*add, *more]
    if not (add or remove):
        add = lines(h, b, ours, shared=False)
    h.write(branch, *said(b, ticket, f"change {h.next()}"), ours, add, remove)


def topics(h: History) -> list[str]:
    return [b for b in h.branches if b.startswith("topic/")]


def features(h: History) -> list[str]:
    return [b for b in h.branches if b.startswith("feature/")]


def other_work(h: History, a: int, b: int) -> None:
    """Somebody else's commit, anywhere."""
    places = [MAIN, "develop", MAIN, *topics(h), *features(h)]
    change(h, places[a % len(places)], a // 3, b, False, OTHERS[b % len(OTHERS)])


def feature_work(h: History, a: int, b: int) -> None:
    """A commit of the feature on a branch of its own."""
    if not features(h) or a % 6 == 0:
        name = f"feature/{FEATURE}" + ("" if not features(h) else f"-part{chr(97 + len(features(h)))}")
        h.branches[name] = h.branches[("develop", MAIN)[b % 2]]
    change(h, features(h)[-1], a // 2, b, True, FEATURE)


def feature_at_once(h: History, a: int, b: int) -> None:
    """A commit of the feature on main or develop."""
    change(h, (MAIN, "develop")[b % 2], a // 2, b // 2, True, FEATURE)


def topic_work(h: History, a: int, b: int) -> None:
    """Somebody else's commit on a branch of its own."""
    if not topics(h) or a % 3 == 0:
        h.branches[f"topic/{OTHERS[a % len(OTHERS)]}-{h.next()}"] = h.branches[(MAIN, "develop")[b % 2]]
    name = topics(h)[-1]
    change(h, name, a // 3, b, False, name.removeprefix("topic/").rpartition("-")[0])


def merge_feature(h: History, a: int, b: int) -> object:
    """The feature's branch into main or develop, by git's, a host's or an own message."""
    if not features(h):
        return None
    name, into = features(h)[a % len(features(h))], (MAIN, "develop")[b % 2]
    messages = [
        (f"Merge branch '{name}'" + ("" if into == MAIN else f" into {into}"), ""),
        (f"Merge pull request #{a} from acme/{name}", f"{FEATURE}: replies and attachments"),
        (f"Merged in {name} (pull request #{a})", ""),
        ("Merge branch 'wip'", f"{FEATURE}"),
        (f"{FEATURE}: merge what is ready", ""),
    ]
    return h.merge(into, [name], *messages[b // 2 % len(messages)])


def merge_topic(h: History, a: int, b: int) -> object:
    if not topics(h):
        return None
    name, into = topics(h)[a % len(topics(h))], (MAIN, "develop")[b % 2]
    return h.merge(into, [name], f"Merge pull request #{a} from acme/{name}", f"{name} done")


def back_merge(h: History, a: int, b: int) -> object:
    """Main or develop into a branch."""
    branches = [*features(h), *topics(h), "develop"]
    name, source = branches[a % len(branches)], (MAIN, "develop")[b % 2]
    return name != source and h.merge(name, [source], f"Merge branch '{source}' into {name}")


def fast_forward(h: History, a: int, b: int) -> None:
    """Main or develop to a branch that holds it."""
    branches = [*features(h), "develop", *topics(h)]
    name, target = branches[a % len(branches)], (MAIN, "develop")[b % 2]
    if h.tip(name).held >> h.branches[target] & 1:
        h.branches[target] = h.branches[name]


def release(h: History, a: int, b: int) -> object:
    """Develop into main, with a message that lists tickets."""
    listed = "\n".join(f"- {t} done" for t in (FEATURE, *OTHERS[:3]))
    subject = (f"Release 1.{a}.0", f"Merge branch 'release/1.{a}'", f"Release of {FEATURE} and others")[b % 3]
    return h.merge(MAIN, ["develop"], subject, listed)


def octopus(h: History, a: int, b: int) -> object:
    if not features(h) or not topics(h):
        return None
    names = [features(h)[a % len(features(h))], topics(h)[b % len(topics(h))]]
    return h.merge(MAIN, names, f"Merge branches '{names[0]}' and '{names[1]}'")


def own_commits(h: History, branch: str, into: str) -> list[Made]:
    """What a branch has and another has not, oldest first; nothing where merges are among it."""
    held = h.tip(branch).held & ~h.tip(into).held
    found = [c for c in h.commits if held >> c.number & 1]
    return [] if any(len(c.parents) > 1 for c in found) else found


def squash(h: History, a: int, b: int) -> None:
    """The feature's branch into main as one commit; the branch is given up."""
    for name in features(h):
        commits = own_commits(h, name, MAIN)
        if commits and all(c.ours for c in commits):
            state = combined(h.base_state(h.branches[MAIN], h.branches[name]), h.tip(MAIN).state, h.tip(name).state)
            body = "\n\n".join(f"* {c.subject}" for c in commits)
            listed = "".join(
                f"\ncommit {c.number:040x}\nAuthor: A <a@example.org>\nDate:   now\n\n    {FEATURE}: x\n" for c in commits
            )
            message = (f"{FEATURE}: attachments (#{a})", body) if b % 2 else ("Squashed commit of the following:", listed)
            on_top(h, MAIN, *message, True, state)
            del h.branches[name]
            return


def on_top(
    h: History, branch: str, subject: str, body: str, ours: bool, state: State, author: int = 0, copy: int | None = None
) -> Made:
    tip = h.tip(branch)
    added, removed = state.lines - tip.state.lines, tip.state.lines - state.lines
    return h._add(
        branch, (tip.number,), state, subject, body, ours=ours, applies=added, removes=removed, author=author, copy_of=copy
    )


def picked(h: History, commit: Made, branch: str, sign: int = 1) -> State | None:
    """A commit's change, or its reverse, on top of a branch; None where nothing of it is left to do."""
    before = h.commits[commit.parents[0]].state
    tip = h.tip(branch).state
    state = combined(before, tip, commit.state) if sign > 0 else combined(commit.state, tip, before)
    return None if state == tip else state


def cherry_pick(h: History, a: int, b: int) -> None:
    """A commit of the feature once more on another branch, with -x or without; its name may be lost with -x."""
    into = (MAIN, "develop")[b % 2]
    commits = [c for c in h.commits if c.ours and len(c.parents) == 1 and not h.tip(into).held >> c.number & 1]
    if not commits:
        return
    commit = commits[a % len(commits)]
    if (state := picked(h, commit, into)) is not None:
        subject, body = commit.subject, commit.body
        if b // 2 % 3 == 0:
            subject = f"Hotfix {a}"
        if b // 2 % 3 != 2:
            body = f"{body}\n\n(cherry picked from commit <<{commit.number}>>)".strip()
        on_top(h, into, subject, body, True, state, commit.author)


def rebase(h: History, a: int, b: int) -> None:
    """The feature's branch once more on main, with both kept; every other time without the ticket in the messages."""
    for name in features(h):
        commits = own_commits(h, name, MAIN)
        if commits and all(c.ours for c in commits):
            h.branches["rebased"] = h.branches[MAIN]
            for n, commit in enumerate(commits):
                if (state := picked(h, commit, "rebased")) is not None:
                    copy = commit.number if b % 3 == 0 and n == 0 else None
                    on_top(
                        h,
                        "rebased",
                        commit.subject,
                        commit.body,
                        True,
                        state,
                        commit.author,
                        copy,
                    )
            h.branches[MAIN] = h.branches.pop("rebased")
            return


def reverts(h: History, a: int, b: int) -> None:
    """A commit taken back: by git's message, by a host's button without the sentence, or merged as a pull request."""
    branch = (MAIN, MAIN, "develop")[b % 3]
    held = h.tip(branch).held
    commits = [c for c in h.commits[1:] if held >> c.number & 1 and c.ours] or [h.commits[0]]
    merges = [c for c in h.commits if held >> c.number & 1 and len(c.parents) == 2 and FEATURE in c.message and whole(h, c)]
    if a % 3 == 0 and merges:
        commits = merges
    commit = commits[a // 3 % len(commits)]
    take_back(h, branch, commit, a, b // 3)


def brought(h: History, merge: Made) -> list[Made]:
    """What a merge brought, without the merges among it."""
    held = merge.held & ~h.commits[merge.parents[0]].held
    return [c for c in h.commits if held >> c.number & 1 and len(c.parents) == 1]


def whole(h: History, merge: Made) -> bool:
    """Whether a merge brought the feature alone, or what takes it back alone."""
    commits = brought(h, merge)
    return bool(commits) and (all(c.ours for c in commits) or all(c.subject.startswith("Revert") for c in commits))


def take_back(h: History, branch: str, commit: Made, a: int, b: int) -> None:
    if not commit.parents:
        return
    on = branch
    if b % 3 == 0:
        on = f"revert-{a}-feature/{FEATURE}"
        h.branches[on] = h.branches[branch]
    state = picked(h, commit, on, -1)
    if state is not None:
        again = not (commit.ours if len(commit.parents) == 1 else brought(h, commit)[0].ours)
        sentence = f"This reverts commit <<{commit.number}>>."
        if len(commit.parents) > 1:
            sentence = f"This reverts commit <<{commit.number}>>, reversing\nchanges made to <<{commit.parents[0]}>>."
        subject = f'Revert "{commit.subject}"'
        bodies = [sentence, "", sentence]
        on_top(h, on, subject, bodies[b // 3 % 3], again, state)
    if on != branch:
        h.merge(branch, [on], f"Merge pull request #{a + 1} from acme/{on}", subject if state is not None else "")
        del h.branches[on]


def reapply(h: History, a: int, b: int) -> None:
    """A revert taken back itself."""
    branch = (MAIN, "develop")[b % 2]
    found = [c for c in h.commits if c.subject.startswith("Revert") and h.tip(branch).held >> c.number & 1]
    if found:
        commit = found[a % len(found)]
        state = picked(h, commit, branch, -1)
        if state is not None:
            subject = (f'Revert "{commit.subject}"', commit.subject.replace("Revert", "Reapply", 1))[b // 2 % 2]
            on_top(h, branch, subject, f"This reverts commit <<{commit.number}>>.", not commit.ours, state)


def rename(h: History, a: int, b: int) -> None:
    """A file under another name, by the feature or by somebody else; each file once."""
    ours = a % 2 == 0
    branch = (MAIN, "develop", *features(h)[-1:])[b % (2 + bool(features(h)))]
    tip = h.tip(branch)
    files = sorted({x.file for x in tip.state.lines} - h.renamed)
    files = [f for f in files if f in SHARED or f.startswith("feature/" if ours else "other/")]
    if files:
        file = files[a // 2 % len(files)]
        h.renamed.add(file)
        h.moved_by_feature |= {file} if ours else set()
        ticket = FEATURE if ours else "BILL-2"
        state = State(tip.state.lines, tip.state.paths | {(file, f"moved/{file.replace('/', '_')}")})
        h._add(branch, (tip.number,), state, *said(b, ticket, "move a file"), ours=ours)


def empty(h: History, a: int, b: int) -> None:
    h.write((MAIN, "develop")[a % 2], *said(b, FEATURE, "run the pipeline again"), True, [])


def mention(h: History, a: int, b: int) -> None:
    """Somebody else's commit that names the feature in passing."""
    subject = (f"PAY-7: adapt to {FEATURE}", "SEC-9: check tokens", f"{FEATURE}, PAY-7: shared header")[b % 3]
    h.write(
        (MAIN, "develop")[a % 2], subject, f"Found while reviewing {FEATURE}.", False, lines(h, b, False, shared=a % 2 == 0)
    )
    h.ambiguous.append("a mention")


def entangled(h: History, a: int, b: int) -> None:
    """Somebody else's change of a line of the feature, or in a file that it made."""
    branch = (MAIN, "develop")[b % 2]
    ours = sorted((x for x in h.tip(branch).state.lines if x.ours), key=lambda x: x.text)
    if ours:
        line = ours[a % len(ours)]
        new = Line(line.file, line.key + 1e-7, f"other_{h.next()} = {line.text}")
        h.write(branch, *said(b, "PAY-7", "change it"), False, [new], [line] if a % 2 else [])
        h.ambiguous.append("others' changes in the feature's lines")


USUAL: tuple[Operation, ...] = (
    other_work, other_work, other_work, feature_work, feature_work, feature_work, feature_at_once, topic_work, topic_work,
    merge_feature, merge_feature, merge_topic, back_merge, back_merge, fast_forward, release, octopus, squash, cherry_pick,
    rebase, reverts, reverts, reapply, rename, empty,
)  # fmt: skip
UNUSUAL: tuple[Operation, ...] = (mention, entangled)


def history(steps: Sequence[tuple[int, int, int]]) -> History:
    """The history that some numbers stand for."""
    made = History()
    every = USUAL + UNUSUAL
    for kind, a, b in steps:
        every[kind % len(every)](made, a, b)
    return made
