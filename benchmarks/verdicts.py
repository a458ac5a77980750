"""How often the comparison of two revisions is wrong, and how often it sees what is there.

In a generated project, whose two revisions run beside each other on a machine that is kept busy:
the same code against itself; a fifth more work in one page; a query for each row; three samples.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

SAME_CODE = 200
PAGES = 8
SLOWER = 40
MORE_QUERIES = 20
BUDGET = 60.0
LOAD = """
import random, time
while True:
    end = time.monotonic() + random.uniform(0.05, 1)
    while time.monotonic() < end:
        sum(range(1000))
    time.sleep(random.uniform(0.05, 1))
"""


@contextmanager
def busy() -> Iterator[None]:
    """Processes that work and rest by chance, one for each processor."""
    count = os.cpu_count() or 1
    started = [subprocess.Popen([sys.executable, "-c", LOAD]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="a key for a benchmark",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        USE_TZ=True,
    )
    django.setup()
    from django.test import override_settings

    from tests.checks.performance.shop import Shop

    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    with tempfile.TemporaryDirectory(prefix="rehearsal-bench-") as folder, busy():
        shop = Shop(Path(folder) / "shop")
        pages = [f"/items/{number}/" for number in range(1, PAGES + 1)]
        with override_settings(REHEARSAL=shop.setting(*pages)):
            show(Bench(shop).run())


class Bench:
    """The two revisions, and what becomes of them."""

    def __init__(self, shop) -> None:  # type: ignore[no-untyped-def]
        from rehearsal.checks.base import Rehearsed, Report
        from rehearsal.conf import configuration

        self.shop = shop
        self.pages = list(configuration().pages)
        now = datetime.datetime.now(datetime.UTC)
        self.report = Report("A line.", Rehearsed(1, shop.first, now))

    def run(self) -> dict[str, Counter[str]]:
        from rehearsal.checks.performance.sides import tree_of

        with tree_of(self.shop.first, self.report) as before:
            self.before = before
            return {
                "same code": self.same_code(),
                "a fifth more": self.slower(),
                "a query for each row": self.more_queries(),
                "three samples": self.three_samples(),
            }

    def compare(self, pages, budget: float = BUDGET):  # type: ignore[no-untyped-def]
        from rehearsal.checks.performance.sessions import compare_trees

        return compare_trees(self.before, self.shop.path, pages, self.report, budget)

    def same_code(self) -> Counter[str]:
        found: Counter[str] = Counter()
        while found.total() < SAME_CODE:
            compared = self.compare(self.pages)
            found.update(str(one.times.change) for one in compared.values())
            print(f"same code: {dict(found)}", file=sys.stderr, flush=True)
        return found

    def slower(self) -> Counter[str]:
        """Each time a fifth of what the page takes by itself, measured then."""
        from rehearsal.checks.performance.sides import side

        found: Counter[str] = Counter()
        page = self.pages[0]
        for _ in range(SLOWER):
            with side(self.before, "before", self.report) as before:
                own = median(before.block(page, 60)["cpu"])
            self.shop.change({"if SLOWER:": f"if page == 1:\n        SLOWER = {0.2 * own!r}"})
            times = self.compare([page])[page.name].times
            found[str(times.change)] += 1
            print(f"a fifth more: {dict(found)} {times.cpu}", file=sys.stderr, flush=True)
        self.shop.change({})
        return found

    def more_queries(self) -> Counter[str]:
        from rehearsal.checks.performance.counts import compare_counts
        from rehearsal.checks.performance.sides import side
        from tests.checks.performance.shop import MORE_QUERIES as CHANGE

        found: Counter[str] = Counter()
        self.shop.change(CHANGE)
        for number in range(MORE_QUERIES):
            page = self.pages[number % PAGES]
            with (
                side(self.before, "before", self.report) as one,
                side(self.shop.path, "after", self.report) as other,
            ):
                said = str(compare_counts(one.profile(page), other.profile(page)))
            named = 'FROM "goods_kind" WHERE' in said and "N+1" in said
            found["named" if named else "not named"] += 1
        self.shop.change({})
        return found

    def three_samples(self) -> Counter[str]:
        compared = self.compare(self.pages, budget=0)
        return Counter(str(one.times.change) for one in compared.values())


def show(found: dict[str, Counter[str]]) -> None:
    print(f"{'':<24}{'comparisons':>12}  outcomes")
    for name, counts in found.items():
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        print(f"{name:<24}{counts.total():>12}  {said}")

    def share(name: str, outcome: str) -> float:
        return round(found[name][outcome] / found[name].total(), 4)

    print(
        json.dumps(
            {
                "false_worse": share("same code", "worse"),
                "caught_20_percent": share("a fifth more", "worse"),
                "named_n_plus_1": share("a query for each row", "named"),
                "inconclusive_three_samples": share("three samples", "inconclusive"),
            }
        )
    )


if __name__ == "__main__":
    main()
