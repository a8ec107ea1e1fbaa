from __future__ import annotations

from parley.server.kit.telemetry import Meaning, Telemetry


def test_what_is_declared_is_remembered_with_its_meaning() -> None:
    telemetry = Telemetry()
    telemetry.histogram("load_seconds", "How long", (1, 2), "kind")
    assert telemetry.meanings[-1] == Meaning("load_seconds", "histogram", "How long", ("kind",))
    shown = {family.name: family.documentation for family in telemetry.registry.collect()}
    assert {one.name: one.text for one in telemetry.meanings}.items() <= shown.items()


def test_what_is_kept_elsewhere_is_looked_up_at_each_scrape() -> None:
    telemetry, doors = Telemetry(), Meaning("doors", "gauge", "Open ones", ("floor",))
    turns = Meaning("turns", "counter", "Of the key")
    samples: dict[tuple[str, ...], float] = {("1",): 3}
    telemetry.scrape(lambda: [(doors, samples), (turns, {(): 7})])
    value = telemetry.registry.get_sample_value
    assert value("doors", {"floor": "1"}) == 3
    samples[("1",)] = 4
    assert value("doors", {"floor": "1"}) == 4
    assert value("turns_total") == 7
