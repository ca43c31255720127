"""Work that is handed out ahead, or awaited behind, comes in its order, and never too much of it at once."""

from concurrent.futures import Future

import pytest

from gluon_aff.iteration import in_order, one_behind


class Workers:
    """Take tasks, whose results are there when they are asked for; what happened, in order."""

    def __init__(self):
        self.events, self.futures = [], []

    def submit(self, task):
        self.events.append(f"take {task}")
        future = Future()
        if task >= 0:
            future.set_result(10 * task)
        self.futures.append(future)
        return future


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_results_come_in_order_with_that_many_tasks_under_way(ahead):
    workers = Workers()
    found = []
    for result in in_order(workers.submit, range(6), ahead):
        found.append(result)
        workers.events.append(f"got {result // 10}")
    assert found == [0, 10, 20, 30, 40, 50]
    under_way = [
        sum(each.startswith("take") for each in workers.events[:position]) - int(event.split()[1])
        for position, event in enumerate(workers.events)
        if event.startswith("got")
    ]
    assert under_way == [min(ahead + 1, 6 - number) for number in range(6)]


def test_no_tasks_give_no_results():
    assert list(in_order(Workers().submit, [], 3)) == []


def test_tasks_that_nobody_waits_for_any_more_are_taken_back():
    workers = Workers()
    results = in_order(workers.submit, [1, -1, -1], 2)
    assert next(results) == 10
    results.close()
    assert [future.cancelled() for future in workers.futures] == [False, True, True]


def test_figures_are_awaited_one_step_behind():
    seen = []

    def steps():
        for step in range(4):
            seen.append(f"start {step}")
            yield step

    for step in one_behind(steps()):
        seen.append(f"await {step}")
    assert seen == ["start 0", "start 1", "await 0", "start 2", "await 1", "start 3", "await 2", "await 3"]
    assert list(one_behind([])) == []
