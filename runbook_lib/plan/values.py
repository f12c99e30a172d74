"""What names and plain values look like in a plan."""

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]
Scalar = str | int | bool | None
