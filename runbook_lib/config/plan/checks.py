"""What all checks of a plan have in common; each kind declares its keys and its facts in its own module of `checks`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_origin

from runbook_lib.config.loading import Model

Area = Literal["Services", "Database", "API", "Frontend"]  # of the rollback log


class CheckSpec(Model):
    """What a plan says of a check; the class's own names are what its kind says."""

    kind: str
    title: str
    """What people call it."""

    area: ClassVar[Area]  # under which the rollback log reports it
    opens: ClassVar[Literal["", "page", "page and returning page"]] = ""  # what is opened while other checks are made
    last: ClassVar[bool] = False  # whether it looks at what the other checks of its round have caused

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a kind that leaves out what it has to say of itself."""
        if get_origin(cls.model_fields["kind"].annotation) is Literal and not hasattr(cls, "area"):
            raise TypeError(f"{cls.__name__} does not declare its area")
