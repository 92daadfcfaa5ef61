"""A run as JUnit XML, which every CI system reads: a test case for each expectation, for the ledger, for the run."""

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement

from clawsim.expect import FAIL, PASS
from clawsim.scenario.errors import printable
from clawsim.verdict import Outcome

LEDGER = "ledger: what became of every reading"
VALIDITY = "run: does it prove anything"


def write_junit(path: Path, outcome: Outcome) -> None:
    """Write the report to `path`. Raises OSError."""
    suite = Element("testsuite", name=f"{outcome.scenario} ({outcome.world})", time=f"{outcome.wall_s:.3f}")
    for judgement in outcome.judgements:
        _fail(_case(suite, outcome.scenario, judgement.name), judgement.verdict, judgement.seen)
    expected = {f"{j.name}: {j.seen}" for j in outcome.judgements}
    failed = [why for verdict, why in outcome.reasons if verdict == FAIL and why not in expected]
    _fail(_case(suite, outcome.scenario, LEDGER), FAIL if failed else PASS, "; ".join(failed))
    worthless = [(verdict, why) for verdict, why in outcome.reasons if verdict != FAIL]
    case = _case(suite, outcome.scenario, VALIDITY)
    if worthless:
        _fail(case, worthless[0][0], "; ".join(why for _, why in worthless))
    _write(path, suite)


def write_unfinished(path: Path, scenario: str, why: str) -> None:
    """Write to `path` that there is no verdict about `scenario`. Raises OSError."""
    suite = Element("testsuite", name=scenario, time="0")
    SubElement(_case(suite, scenario, VALIDITY), "error", message=printable(f"not run to its end: {why}"))
    _write(path, suite)


def _case(suite: Element, scenario: str, name: str) -> Element:
    return SubElement(suite, "testcase", classname=scenario, name=name)


def _fail(case: Element, verdict: str, seen: str) -> None:
    if verdict != PASS:
        SubElement(case, "failure" if verdict == FAIL else "error", message=printable(f"{verdict}: {seen}"))


def _write(path: Path, suite: Element) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(1 for case in cases if case.find("failure") is not None)))
    suite.set("errors", str(sum(1 for case in cases if case.find("error") is not None)))
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
