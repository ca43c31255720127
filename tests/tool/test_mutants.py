"""`make mutants`: which faults are put in, and whether a test that fails is seen."""

import textwrap

import pytest

from tools.mutants import __main__ as mutants
from tools.mutants.covering_tests import CoveringTests, read_durations
from tools.mutants.faults import Fault, find_faults
from tools.mutants.trial import LONGEST_TRIAL, Outcome, choose_tests, try_fault

SOURCE = textwrap.dedent('''\
    """Half of 3 is 1."""
    LIMIT: int = 10
    __all__ = ["half", "LIMIT"]

    def half(value: int = 4, *, exact=False):
        """Half, 0.5 of it."""
        if value > LIMIT and not exact:
            raise ValueError(f"{value} is over {LIMIT + 0}")
        report("ä", value, unit="m", digits=2)
        return value / 2 if exact else value // 2
''')


def changes(source=SOURCE):
    return {(fault.line, fault.kind, fault.what) for fault in find_faults("half.py", source)}


def test_every_kind_of_fault_is_found_and_words_are_left_alone():
    assert changes() == {
        (2, "number", "`10` becomes `11`"),
        (5, "number", "`4` becomes `5`"),
        (5, "switch", "`False` becomes `True`"),
        (7, "condition", "`value > LIMIT and not exact` becomes `True`"),
        (7, "condition", "`value > LIMIT and not exact` becomes `False`"),
        (7, "condition", "`and` becomes `or` before `not exact`"),
        (7, "condition", "`not exact` becomes `exact`"),
        (7, "comparison", "`>` becomes `>=` before `LIMIT`"),
        (9, "call", '`report("ä", value, unit="m", digits=2)` is left out'),
        (9, "order", '`"ä"` and `value` change places'),
        (9, "option", "the argument `digits=2` is left out"),
        (9, "number", "`2` becomes `3`"),
        (10, "choice", "`value / 2` and `value // 2` change places"),
        (10, "arithmetic", "`/` becomes `*` before `2`"),
        (10, "arithmetic", "`//` becomes `*` before `2`"),
        (10, "number", "`2` becomes `3`"),
    }


@pytest.mark.parametrize(
    ("code", "swaps"),
    [
        ("x in (a, b)", 0),
        ("(a, b) == x not in [a, b]", 1),
        ("max(a, b) + min(c, d)", 0),
        ("np.maximum(a, b) + mx.nd.maximum(c, d) + F.broadcast_mul(e, f)", 0),
        ("isinstance(x, (A, B))", 1),
        ("text.startswith((a, b)) or text.endswith((c, d))", 0),
        ("f(x, axis=(2, 3), dim=(4, 5), shape=(6, 7))", 1),
        ("Pair = Union[A, B]", 0),
        ("x[a, b]", 1),
        ("limits.min(a, b)", 1),
        ("try: f(a, b)\nexcept (A, B): pass", 1),
        ("try: pass\nexcept A: f(a, b)", 1),
    ],
)
def test_no_places_are_changed_where_the_order_makes_no_difference(code, swaps):
    assert sum(kind == "order" for _, kind, _ in changes(code)) == swaps


@pytest.mark.parametrize(
    ("line", "kind", "changed"),
    [
        (2, "number", "LIMIT: int = 11"),
        (7, "comparison", "    if value >= LIMIT and not exact:"),
        (9, "order", '    report(value, "ä", unit="m", digits=2)'),
        (9, "option", '    report("ä", value, unit="m", )'),
        (9, "call", "    pass"),
        (10, "choice", "    return value // 2 if exact else value / 2"),
    ],
)
def test_a_fault_changes_its_place_and_nothing_else(line, kind, changed):
    fault = next(fault for fault in find_faults("half.py", SOURCE) if (fault.line, fault.kind) == (line, kind))
    expected = SOURCE.splitlines()
    expected[line - 1] = changed
    assert fault.applied_to(SOURCE).splitlines() == expected
    assert fault.is_python(SOURCE)


def test_only_what_is_in_no_function_runs_at_import():
    assert {(fault.line, fault.what) for fault in find_faults("half.py", SOURCE) if fault.at_import} == {
        (2, "`10` becomes `11`"),
        (5, "`4` becomes `5`"),
        (5, "`False` becomes `True`"),
    }


class Covering(CoveringTests):
    """Every test covers everything."""

    def __init__(self, seconds, fixtures=None):
        super().__init__(seconds, fixtures or {}, None)

    def of(self, fault):
        return list(self.seconds)


def test_tests_are_taken_while_there_is_time():
    fault = find_faults("half.py", SOURCE)[0]
    seconds = {"a": LONGEST_TRIAL / 2, "b": LONGEST_TRIAL / 2, "c": 0.1}
    assert choose_tests(fault, Covering(seconds)) == ["a", "b"]
    assert choose_tests(fault, Covering({"long": LONGEST_TRIAL + 1, "c": 0.1})) == ["long"]
    assert choose_tests(fault, Covering({"f::a": 1.0, "f::b": 1.0, "g::c": 1.0}, {"g": LONGEST_TRIAL})) == [
        "f::a",
        "f::b",
    ]


def test_the_cost_has_the_fixtures_of_a_file_once():
    covering = Covering({"f::a": 1.0, "f::b": 2.0, "g::c": 4.0}, {"f": 8.0, "g": 16.0})
    assert covering.cost(["f::a", "f::b"]) == 11


def test_durations_are_of_all_tests_that_pass_and_setups_of_files(capsys):
    log = (
        "3.00s setup    f.py::a[x y]\n0.50s call     f.py::a[x y]\n0.25s teardown f.py::a[x y]\n"
        "0.00s call     f.py::b\n0.00s setup    f.py::b\n1.00s call     f.py::c\n"
        "FAILED f.py::c - assert 1 == 2\n"
    )
    seconds, fixtures = {"g.py::d": 1.0}, {}
    read_durations(log, seconds, fixtures)
    assert (seconds, fixtures) == ({"g.py::d": 1.0, "f.py::a[x y]": 3.75, "f.py::b": 0.0}, {"f.py": 3.0})
    assert capsys.readouterr().err == "left out, because it fails without a fault: f.py::c\n"


def test_a_fault_is_noticed_where_a_test_fails_and_is_taken_out_again(tmp_path):
    source = "def larger(a, b):\n    return a if a > b else b\n"
    (tmp_path / "larger.py").write_text(source)
    (tmp_path / "test_larger.py").write_text("from larger import larger\ndef test_it(): assert larger(1, 2) == 2\n")
    choice, comparison = (
        next(fault for fault in find_faults("larger.py", source) if fault.kind == kind)
        for kind in ("choice", "comparison")
    )
    covering = Covering({"test_larger.py::test_it": 0.1})
    noticed, survived = (try_fault(fault, tmp_path, covering) for fault in (choice, comparison))
    assert (noticed.noticed, noticed.by) == (True, "test_larger.py::test_it - assert 1 == 2")
    assert not survived.noticed  # where both are the same, it makes no difference which is returned
    assert (tmp_path / "larger.py").read_text() == source
    assert not try_fault(choice, tmp_path, Covering({})).noticed


def test_what_is_explained_counts_neither_way_while_its_line_is_as_it_was(tmp_path, monkeypatch, capsys):
    faults = find_faults("gluon_aff/half.py", SOURCE)[:3]
    outcomes = [Outcome(fault, noticed, 1) for fault, noticed in zip(faults, (True, False, False))]
    explained = tmp_path / "explained.csv"
    explained.write_text(
        "file,code,change,why\n"
        'gluon_aff/half.py,"def half(value: int = 4, *, exact=False):",`4` becomes `5`,Every caller gives one.\n'
        "gluon_aff/half.py,another line,`False` becomes `True`,It was so.\n"
    )
    monkeypatch.setattr(mutants, "EXPLAINED", explained)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    assert mutants.report(outcomes, 7) == 50
    printed = capsys.readouterr().out
    assert "seed 7: 1 of 2 noticed, 50.0 %; 1 more are explained in explained.csv" in printed
    assert "not noticed: gluon_aff/half.py:5: switch: `False` becomes `True` (1 tests ran it)" in printed


def test_every_explained_fault_is_one_that_can_be_drawn():
    explained = mutants.read_explained()
    sources = {path: (mutants.ROOT / path).read_text(encoding="utf-8") for path, *_ in explained}
    possible = {fault.identity for path, source in sources.items() for fault in find_faults(path, source)}
    assert sorted(explained - possible) == []


def test_a_draw_is_the_same_for_the_same_seed_and_takes_no_place_twice():
    drawn = mutants.draw(["gluon/fusion"], 30, 3)
    assert mutants.draw(["gluon/fusion"], 30, 3) == drawn != mutants.draw(["gluon/fusion"], 30, 4)
    assert len({(fault.path, fault.start, fault.text) for fault in drawn}) == 30


class Lines:
    """Contexts by line, as coverage.py gives them."""

    def contexts_by_lineno(self, path):
        return {
            1: [""],
            3: ["tests/data/a.py::one|run"],
            4: ["tests/gluon/test_fusion.py::first|setup"],
            9: ["gone|run"],
        }


@pytest.mark.parametrize(
    ("lines", "at_import", "chosen"),
    [
        ((3, 3), False, ["one"]),
        ((4, 4), False, ["second", "first"]),  # which share a fixture
        ((3, 4), False, ["second", "first", "one"]),
        (
            (3, 3),
            True,
            ["reads_a_constant", "second", "first", "one", "compares"],
        ),  # only the first import was in a test
        ((7, 7), False, ["reads_a_constant", "second", "first", "one", "compares"]),  # no test runs it itself
    ],
)
def test_tests_of_a_line_are_its_rooms_and_the_shortest_first(lines, at_import, chosen):
    """What runs at import, or in other processes, is held by tests of the room, too, that run no line of the file."""
    seconds = {
        "tests/data/a.py::one": 0.1,
        "tests/gluon/test_fusion.py::first": 3.0,
        "tests/gluon/test_fusion.py::second": 2.0,
        "tests/gluon/fusion/test_c.py::reads_a_constant": 1.0,
        "tests/gluon/test_other.py::compares": 0.5,
        "tests/weights/test_d.py::elsewhere": 0.5,
    }
    fault = Fault("gluon_aff/gluon/fusion/operators.py", "number", lines, at_import, lines[0], "", 0, 1, "", "")
    found = CoveringTests(seconds, {}, Lines()).of(fault)
    assert [test.split("::")[1] for test in found] == chosen
