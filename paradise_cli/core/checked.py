"""Files of ours that anyone may have edited: what they say is checked before it is believed."""

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paradise_cli.core.errors import printable

Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
"""What a tensor of integers can hold."""


class Strict(BaseModel):
    """No unknown keys and no conversions: what is there is as it was written."""

    model_config = ConfigDict(strict=True, extra="forbid")


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong: where, and what should be there."""
    # Not what was found: it may be anything, of any size.
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return printable(f"{where}: {first['msg']}" if where else first["msg"])
