"""Sensors and their signals: from what the file says to the specification that ``firmware.hal.signals`` runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clawsim.scenario.base import Strict
from clawsim.scenario.context import Context
from clawsim.scenario.errors import did_you_mean
from clawsim.scenario.metrics import WELL_KNOWN, Metric
from clawsim.scenario.models import Sensor
from clawsim.scenario.plan import Json, SensorPlan
from clawsim.scenario.recordings import of_encoding, of_header
from clawsim.scenario.signal_models import ConstantSignal, CsvSignal, RampSignal, SineSignal, StepsSignal
from firmware.hal.recording import RecordingError
from firmware.hal.signals import SignalError, scaled, signal_from_spec
from firmware.wire.ids import valid_metric

SHORTEST_PERIOD_MS = 100
_SIGNAL_MODELS = ConstantSignal | SineSignal | StepsSignal | RampSignal | CsvSignal


def resolve_sensor(sensor: Sensor, context: Context) -> SensorPlan | None:
    """The plan of one sensor, or ``None`` with the reasons among the problems.

    Noise has no seed yet: :func:`for_node` gives each node its own.
    """
    metric = _metric(sensor, context)
    if metric is None:
        return None
    signal = _signal(sensor.signal, metric, context)
    every_ms = _every_ms(sensor, metric, context)
    if signal is None:
        return None
    low, high = (int(scaled(bound, metric.decimals)) for bound in (metric.low, metric.high))
    shape = (metric.name, metric.unit, metric.kind, metric.decimals, low, high)
    return SensorPlan(*shape, every_ms, signal, metric.event, sensor.sealed)


def for_node(sensor: SensorPlan, node_id: str, context: Context) -> SensorPlan:
    """``sensor`` as ``node_id`` has it: with noise of its own."""
    if "noise" not in sensor.signal:
        return sensor
    signal = {**sensor.signal, "seed": context.draw(2**63, "noise", node_id, sensor.metric)}
    return replace(sensor, signal=signal)


def _metric(sensor: Sensor, context: Context) -> Metric | None:
    """The well-known metric with the sensor's own particulars on top, or one that the sensor describes in full."""
    known = WELL_KNOWN.get(sensor.metric)
    if known is None and not _describes_itself(sensor, context):
        return None
    base = known or Metric(sensor.metric, "", 0, 0, 0, kind=sensor.kind or "number")
    low, high = sensor.range or (base.low, base.high)
    if low > high:
        context.complain(sensor.mark("range"), f"range: {low:g} is above {high:g}; write [lowest, highest]")
    return Metric(
        base.name,
        base.unit if sensor.unit is None else sensor.unit,
        base.decimals if sensor.decimals is None else sensor.decimals,
        low,
        high,
        sensor.kind or base.kind,
        base.event if sensor.event is None else sensor.event,
    )


def _describes_itself(sensor: Sensor, context: Context) -> bool:
    mark = sensor.mark("metric")
    if not valid_metric(sensor.metric):
        context.complain(mark, f"'{sensor.metric}' cannot be a metric: lower-case letters, digits and underscores, "
                               "not a verb such as heartbeat, cmd or status")  # fmt: skip
        return False
    if sensor.kind in ("bool", "text") or None not in (sensor.unit, sensor.decimals, sensor.range):
        return True
    hint = did_you_mean(sensor.metric, WELL_KNOWN)
    context.complain(
        mark, f"unknown metric '{sensor.metric}'{hint}; a metric of your own needs unit, decimals and range (or kind)"
    )
    return False


def _every_ms(sensor: Sensor, metric: Metric, context: Context) -> int | None:
    has_instants = isinstance(sensor.signal, CsvSignal) or (metric.event and isinstance(sensor.signal, StepsSignal))
    if sensor.every is None:
        if not has_instants:
            context.complain(sensor.mark(), f"the sensor of {metric.name} needs `every`, for example every: 60 s")
        return None
    every_ms = context.whole_ms(sensor, "every", sensor.every)
    if every_ms < SHORTEST_PERIOD_MS:
        context.complain(sensor.mark("every"), f"every: must be at least {SHORTEST_PERIOD_MS} ms")
    return every_ms


def _signal(model: _SIGNAL_MODELS, metric: Metric, context: Context) -> Json | None:
    spec = _spec(model, context)
    spec.update(exp=metric.decimals, type=metric.kind)
    noise = model.noise or (model.sine.noise if isinstance(model, SineSignal) else 0)
    if metric.kind != "number" and (noise or isinstance(model, SineSignal | RampSignal)):
        context.complain(
            model.mark(), f"{metric.name} is not a number: it can be constant, steps or csv, without noise"
        )
        return None
    if noise:
        spec.update(noise=noise)
    return spec if _usable(spec, model, context) else None


def _spec(model: _SIGNAL_MODELS, context: Context) -> dict[str, Any]:
    if isinstance(model, ConstantSignal):
        return {"kind": "constant", "value": model.constant}
    if isinstance(model, SineSignal):
        return _sine(model, context)
    if isinstance(model, StepsSignal):
        steps = [{"at_ms": context.whole_ms(step, "at", step.at), "value": step.value} for step in model.steps]
        return {"kind": "steps", "steps": steps}
    if isinstance(model, RampSignal):
        return _ramp(model, context)
    return _recording(model, context)


def _sine(model: SineSignal, context: Context) -> dict[str, Any]:
    sine = model.sine
    return {
        "kind": "sine",
        "mean": sine.mean,
        "amplitude": sine.amplitude,
        "period_ms": context.whole_ms(sine, "period", sine.period),
        "phase_ms": context.whole_ms(sine, "phase", sine.phase),
    }


def _ramp(model: RampSignal, context: Context) -> dict[str, Any]:
    ramp = model.ramp
    return {
        "kind": "ramp",
        "from": ramp.from_,
        "to": ramp.to,
        "at_ms": context.whole_ms(ramp, "at", ramp.at),
        "over_ms": context.whole_ms(ramp, "over", ramp.over),
    }


def _recording(model: CsvSignal, context: Context) -> dict[str, Any]:
    spec = {
        "kind": "recording",
        "path": str(context.folder / model.csv),
        "column": model.column,
        "time": model.time,
        "gaps": model.gaps,
        "loop": model.loop,
    }
    return spec if model.start is None else {**spec, "start": model.start}


def _usable(spec: Json, model: Strict, context: Context) -> bool:
    """Whether a signal can be made of ``spec``: the one place that knows is the maker itself."""
    recorded = spec["kind"] == "recording"
    kind = "csv" if recorded else spec["kind"]
    misfits = of_header(spec["path"], spec["time"], spec["column"]) if recorded else []
    for misfit in misfits:
        context.complain(model.mark(kind), misfit)
    if misfits:
        return False
    try:
        signal_from_spec({"seed": 0, **spec})
    except RecordingError as error:
        for problem in of_encoding(spec["path"]) or error.problems:
            context.complain(model.mark(kind), problem)
    except SignalError as error:
        context.complain(model.mark(kind), str(error))
    else:
        return True
    return False
