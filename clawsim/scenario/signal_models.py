"""What a sensor measures, as the scenario file writes it: a constant, a curve, steps or a recording."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from clawsim.scenario.base import (
    Duration,
    Flag,
    NonNegative,
    Real,
    Strict,
    Value,
    by_key,
)

MAX_STEPS = 10_000


class Sine(Strict):
    mean: Real
    amplitude: Real
    period: Duration
    phase: Duration = Field(default=0, description="How far into its period the sine is at the start of the run")
    noise: NonNegative = Field(default=0, description="Standard deviation of added noise, in the metric's unit")


class Step(Strict):
    at: Duration
    value: Value


class Ramp(Strict):
    from_: Real = Field(alias="from")
    to: Real
    over: Duration
    at: Duration = Field(default=0, description="When the ramp begins; before it the value is `from`, after it `to`")


class Noisy(Strict):
    noise: NonNegative = Field(default=0, description="Standard deviation of added noise, in the metric's unit")


class ConstantSignal(Noisy):
    constant: Value


class SineSignal(Noisy):
    sine: Sine


class StepsSignal(Noisy):
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS, description="The value from each instant on")


class RampSignal(Noisy):
    ramp: Ramp


class CsvSignal(Noisy):
    csv: str = Field(description="Path of the recording, relative to the scenario file")
    column: str
    time: str = Field(default="time", description="Column of ISO 8601 times; without an offset they are UTC")
    start: str | None = Field(default=None, description="ISO 8601 time that is instant 0; by default the first row's")
    loop: Flag = Field(default=False, description="Begin anew at the end of the recording")
    gaps: Literal["error", "skip"] = Field(default="error", description="What an empty cell means")


SIGNALS = ("constant", "sine", "steps", "ramp", "csv")
Signal = Annotated[
    Annotated[ConstantSignal, Tag(":constant")]
    | Annotated[SineSignal, Tag(":sine")]
    | Annotated[StepsSignal, Tag(":steps")]
    | Annotated[RampSignal, Tag(":ramp")]
    | Annotated[CsvSignal, Tag(":csv")],
    by_key("a signal", SIGNALS),
]
