"""Names are cut by bytes, as the server counts them, and keep their suffix."""

from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.postgres.text_settings import LONGEST, fitted

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=90)


@given(NAMES, st.sampled_from(["", "__old_20251103", "_före"]))
def test_a_name_fits_and_keeps_its_suffix_and_as_much_as_there_is_room_for(name: str, suffix: str) -> None:
    cut = fitted(name, suffix)

    kept = cut.removesuffix(suffix) if suffix else cut
    room = LONGEST - len(suffix.encode())
    assert len(cut.encode()) <= LONGEST
    assert name.startswith(kept)
    assert cut.endswith(suffix)
    assert kept == name or len((kept + name[len(kept)]).encode()) > room
