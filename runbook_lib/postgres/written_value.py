"""Compare two texts as values of the type of the column that one came from, however a client wrote them. Pure.

Numbers are compared as numbers, floats within the precision of their type, uuids without case and hyphens, times as moments.
A time without a zone counts as UTC. One with three digits of a second, or in milliseconds since 1970, counts as truncated
there, because clients that count milliseconds write it so. `citext` has no case, `char(n)` no trailing spaces, `bytea` is
hex or base64. Values of any other type are compared as text.
"""

from collections.abc import Callable

from psycopg import sql

Same = Callable[[sql.Composable, sql.Composable], sql.Composable]

NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"
UUID = r"^\{?[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\}?$"
ZONE = r"([zZ]|UTC|GMT|[+-](0\d|1[0-4])(:?[0-5]\d)?)"
MOMENT = (
    r"^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    rf"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{{1,9}})?)? ?{ZONE}?)?$"
)

SECONDS, MILLISECONDS = r"^\d{9,10}$", r"^\d{12,13}$"  # since 1970
TIME = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?$"
_THEN = r"(,? (?=[-\d])|$)"
INTERVAL = (
    rf"^(?=.)(-?\d{{1,4}} years?{_THEN})?(-?\d{{1,4}} mons?{_THEN})?(-?\d{{1,6}} days?{_THEN})?"
    r"(-?\d{1,6}:[0-5]\d(:[0-5]\d(\.\d{1,6})?)?)?$"
    r"|^P(?=.)(\d{1,4}Y)?(\d{1,4}M)?(\d{1,4}W)?(\d{1,6}D)?(T(?=.)(\d{1,6}H)?(\d{1,6}M)?(\d{1,6}(\.\d{1,6})?S)?)?$"
)
HEX, BASE64 = r"^(\\x)?([0-9a-fA-F]{2})*$", r"^([\w+/]{4})*([\w+/]{2}==|[\w+/]{3}=)?$"
LARGEST = {"real": "1e37", "double precision": "1e300"}  # beyond these and their inverses a cast may fail


def same_number(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """Return the condition that two texts are the same number; false if one is not a number."""
    return sql.SQL(
        "CASE WHEN {one} ~ {number} AND {other} ~ {number} THEN {one}::numeric = {other}::numeric ELSE FALSE END"
    ).format(one=one, other=other, number=sql.Literal(NUMBER))


def same_float(type_: str) -> Same:
    """Return a comparison of two texts as numbers of a float type; false if one is not a number."""

    def same(one: sql.Composable, other: sql.Composable) -> sql.Composed:
        fits = sql.SQL("abs({}::numeric) BETWEEN 1 / {most}::numeric AND {most}::numeric").format
        return sql.SQL(
            """CASE WHEN {same} THEN TRUE WHEN {one} ~ {number} AND {other} ~ {number}
            THEN CASE WHEN {fits} AND {others} THEN {one}::{type} = {other}::{type} ELSE FALSE END ELSE FALSE END"""
        ).format(
            same=same_number(one, other),
            one=one,
            other=other,
            number=sql.Literal(NUMBER),
            fits=fits(one, most=sql.Literal(LARGEST[type_])),
            others=fits(other, most=sql.Literal(LARGEST[type_])),
            type=sql.SQL(type_),
        )

    return same


def same_as(pattern: str, type_: str) -> Same:
    """Return a comparison of two texts as values of a type that the server reads if they match; else false."""

    def same(one: sql.Composable, other: sql.Composable) -> sql.Composed:
        return sql.SQL(
            "CASE WHEN {one} ~ {it} AND {other} ~ {it} THEN {one}::{type} = {other}::{type} ELSE FALSE END"
        ).format(one=one, other=other, it=sql.Literal(pattern), type=sql.SQL(type_))

    return same


def same_bytes(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """Return the condition that a text, in hex or base64, has the bytes of the hex text `other`; false if it is neither."""
    return sql.SQL(
        """(replace({other}, '\\x', '') IN (CASE WHEN {one} ~ {hex} THEN lower(replace({one}, '\\x', '')) END,
        CASE WHEN {one} ~ {base64} THEN encode(decode({one}, 'base64'), 'hex') END)) IS TRUE"""
    ).format(one=one, other=other, hex=sql.Literal(HEX), base64=sql.Literal(BASE64))


def _alike(template: str) -> Same:
    """Return a comparison of two texts after the template, with each as `it`, normalises them."""

    def same(one: sql.Composable, other: sql.Composable) -> sql.Composed:
        return sql.SQL("({} = {}) IS TRUE").format(*(sql.SQL(template).format(it=each) for each in (one, other)))

    return same


def same_uuid(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """Return the condition that two texts are the same uuid; false if one is not a uuid."""
    return sql.SQL("CASE WHEN {one} ~ {uuid} AND {other} ~ {uuid} THEN {one}::uuid = {other}::uuid ELSE FALSE END").format(
        one=one, other=other, uuid=sql.Literal(UUID)
    )


def same_moment(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """Return the condition that a text is the moment `other`, as far as its digits go; false if one is not a moment."""
    whole = _moment(other)
    return sql.SQL(
        """CASE WHEN NOT {other_is} THEN FALSE
        WHEN {one_is} THEN {first} = CASE WHEN {one} ~ {in_ms} THEN {cut} ELSE {whole} END
        WHEN {one} ~ {seconds} THEN to_timestamp({one}::numeric) = {whole}
        WHEN {one} ~ {milliseconds} THEN to_timestamp({one}::numeric / 1000) = {cut} ELSE FALSE END"""
    ).format(
        other_is=_is_moment(other),
        one_is=_is_moment(one),
        one=one,
        first=_moment(one),
        in_ms=sql.Literal(r"\.\d\d\d(\D|$)"),
        cut=sql.SQL("date_trunc('milliseconds', {})").format(whole),
        whole=whole,
        seconds=sql.Literal(SECONDS),
        milliseconds=sql.Literal(MILLISECONDS),
    )


def _is_moment(text: sql.Composable) -> sql.Composed:
    """Return the condition that the server reads it as a moment: it would fail at a day that its month does not have."""
    return sql.SQL(
        """CASE WHEN {text} ~ {moment} THEN substr({text}, 9, 2)::int
        <= extract(day FROM (substr({text}, 1, 7) || '-01')::date + interval '1 month - 1 day') ELSE FALSE END"""
    ).format(text=text, moment=sql.Literal(MOMENT))


def _moment(text: sql.Composable) -> sql.Composed:
    return sql.SQL(
        "({text} || CASE WHEN {text} ~ {zoned} THEN '' WHEN {text} ~ ':' THEN 'Z' ELSE ' 00:00Z' END)::timestamptz"
    ).format(text=text, zoned=sql.Literal(f":.*{ZONE}$"))


SAME_VALUE: dict[str, Same] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric"), same_number),
    **{name: same_float(name) for name in LARGEST},
    **dict.fromkeys(("date", "timestamp with time zone", "timestamp without time zone"), same_moment),
    "time without time zone": same_as(TIME, "time"),
    "interval": same_as(INTERVAL, "interval"),
    "uuid": same_uuid,
    "bytea": same_bytes,
    "citext": _alike("lower({it})"),
    "character": _alike("rtrim({it})"),
    "inet": _alike("regexp_replace(lower({it}), '/(32|128)$', '')"),
}
