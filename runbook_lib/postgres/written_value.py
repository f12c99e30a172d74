"""Whether two texts say the same value, by the type of the column that it came from, however a client wrote it. Pure.

Numbers are compared as numbers, identifiers (uuid) without case and hyphens, times as moments: a time without a zone counts
as UTC, and one with three digits of a second as cut off there, as clients that count milliseconds write it. A value of any
other type has one text.
"""

from collections.abc import Callable

from psycopg import sql

Same = Callable[[sql.Composable, sql.Composable], sql.Composable]

NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"
UUID = r"^\{?[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\}?$"
ZONE = r"([zZ]|[+-](0\d|1[0-4])(:?[0-5]\d)?)"
MOMENT = (
    r"^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    rf"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{{1,9}})?)? ?{ZONE}?)?$"
)


def same_number(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """That two texts are the same number; false where one is none."""
    return sql.SQL(
        "CASE WHEN {one} ~ {number} AND {other} ~ {number} THEN {one}::numeric = {other}::numeric ELSE FALSE END"
    ).format(one=one, other=other, number=sql.Literal(NUMBER))


def same_uuid(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """That two texts are the same uuid; false where one is none."""
    return sql.SQL("CASE WHEN {one} ~ {uuid} AND {other} ~ {uuid} THEN {one}::uuid = {other}::uuid ELSE FALSE END").format(
        one=one, other=other, uuid=sql.Literal(UUID)
    )


def same_moment(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """That a text is the moment that the `other` is, as far as its digits go; false where one is none."""
    return sql.SQL("CASE WHEN {both} THEN {first} = {second} ELSE FALSE END").format(
        both=sql.SQL(" AND ").join([_is_moment(one), _is_moment(other)]),
        first=_moment(one),
        second=sql.SQL("CASE WHEN {one} ~ {in_ms} THEN date_trunc('milliseconds', {it}) ELSE {it} END").format(
            one=one, in_ms=sql.Literal(r"\.\d\d\d(\D|$)"), it=_moment(other)
        ),
    )


def _is_moment(text: sql.Composable) -> sql.Composed:
    """That the server reads it as a moment: it would fail at a day that its month does not have."""
    return sql.SQL(
        """CASE WHEN {text} ~ {moment} THEN substr({text}, 9, 2)::int
        <= extract(day FROM (substr({text}, 1, 7) || '-01')::date + interval '1 month - 1 day') ELSE FALSE END"""
    ).format(text=text, moment=sql.Literal(MOMENT))


def _moment(text: sql.Composable) -> sql.Composed:
    return sql.SQL(
        "({text} || CASE WHEN {text} ~ {zoned} THEN '' WHEN {text} ~ ':' THEN 'Z' ELSE ' 00:00Z' END)::timestamptz"
    ).format(text=text, zoned=sql.Literal(f":.*{ZONE}$"))


SAME_VALUE: dict[str, Same] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric", "real", "double precision"), same_number),
    **dict.fromkeys(("date", "timestamp with time zone", "timestamp without time zone"), same_moment),
    "uuid": same_uuid,
}
