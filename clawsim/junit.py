"""A run as JUnit XML, which every CI system reads: one test case for each expectation, and one for the ledger."""

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement

from clawsim.expect import FAIL, PASS
from clawsim.verdict import Outcome


def write_junit(path: Path, outcome: Outcome) -> None:
    """Write the report to `path`. Raises OSError."""
    name = f"{outcome.scenario} ({outcome.world})"
    suite = Element("testsuite", name=name, time=f"{outcome.wall_s:.3f}")
    for judgement in outcome.judgements:
        case = SubElement(suite, "testcase", classname=outcome.scenario, name=judgement.name)
        _fail(case, judgement.verdict, judgement.seen)
    expected = {f"{j.name}: {j.seen}" for j in outcome.judgements}
    others = [(verdict, why) for verdict, why in outcome.reasons if why not in expected]
    case = SubElement(
        suite, "testcase", classname=outcome.scenario, name="every reading is accounted for, the run is valid"
    )
    if others:
        _fail(case, others[0][0], "; ".join(why for _, why in others))
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(1 for c in cases if c.find("failure") is not None)))
    suite.set("errors", str(sum(1 for c in cases if c.find("error") is not None)))
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _fail(case: Element, verdict: str, seen: str) -> None:
    if verdict != PASS:
        SubElement(case, "failure" if verdict == FAIL else "error", message=f"{verdict}: {seen}")
