"""What each golden run is tested for; two files inherit it, so that they run side by side."""

import pytest
from shared_by_tests.golden_runs import changes, distances, tolerance

BITS = ("weights_sha256", "batches_sha256")


class HeldAgainstGoldens:
    """Tests of `golden_and_found`, a golden and what `measure` returned."""

    def test_what_rounding_does_not_touch_is_the_same(self, golden_and_found):
        differing = changes(*golden_and_found)
        assert not differing, "\n".join(differing)

    def test_what_rounding_touches_is_near(self, golden_and_found):
        golden, found = golden_and_found
        for kind, distance in distances(golden["rounded"], found["rounded"]).items():
            assert distance.value <= tolerance(golden, kind), f"{kind}: {distance}"

    def test_the_same_machine_gives_the_same_bits(self, golden_and_found):
        golden, found = golden_and_found
        here = found["made_with"]
        others = [f"{name} {value}" for name, value in golden["made_with"].items() if here[name] != value]
        if others:
            pytest.skip(f"the golden was made with {', '.join(others)}: its bits are not compared")
        for name in BITS:
            assert found["rounded"][name] == golden["rounded"][name], name
