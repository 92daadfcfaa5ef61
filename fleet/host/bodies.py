"""What several requests' bodies have in common."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NodeType = Literal["microclaw", "picoclaw", "picclaw", "nanoclaw", "moltclaw"]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="1 to 32 of a-z, 0-9 and '-'")]
Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
MOST_METADATA_BYTES = 4_096


def whole(value: Any) -> Any:
    """JSON's 8 and 8.0 are the same whole number; true and "8" are none."""
    if isinstance(value, bool | str):
        raise ValueError("expected a whole number")
    return value


Whole = Annotated[int, BeforeValidator(whole)]
Count = Annotated[Whole, Field(ge=0, le=2**53 - 1)]
Word = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]
Capabilities = Annotated[list[Word], Field(max_length=64)]


def moment(value: Any) -> Any:
    """A time is written as ISO 8601 has it; a number, also in quotes, is none."""
    if not isinstance(value, str) or value.lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("expected a time as in 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[datetime, BeforeValidator(moment)]


class Hardware(BaseModel):
    """What an agent or node runs on."""

    model_config = ConfigDict(extra="forbid")

    chip: Word | None = None
    ram_kb: Count | None = None
    flash_mb: Count | None = None
    model: Word | None = None
