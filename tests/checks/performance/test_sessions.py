"""Two revisions of a real project, each in a process of its own, compared page by page."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from django.test import override_settings

from rehearsal.checks.performance import sessions
from rehearsal.checks.performance.counts import compare_counts
from rehearsal.checks.performance.probe import normalised
from rehearsal.checks.performance.sessions import compare_trees, session
from rehearsal.checks.performance.sides import CannotRun, side, tree_of
from rehearsal.checks.performance.statistics import Change
from rehearsal.observed import PageName
from tests import mailers
from tests.checks.performance.shop import MORE_QUERIES, SETTINGS, VIEWS, Shop
from tests.checks.projects import make_report

ITEMS = PageName.read("/items/")


def test_a_page_is_profiled_as_the_account_sees_it_and_nothing_it_writes_stays(shop: Shop) -> None:
    with (
        override_settings(REHEARSAL=shop.setting()),
        side(shop.path, "this", make_report("A line.")) as this,
    ):
        found = this.profile(ITEMS)
        assert found.queries == 3  # session, user, items
        assert found == this.profile(ITEMS)
        cached = this.profile(PageName.read("/cached/"))
        assert (cached.queries, cached.warm_queries) == (1, 0)
        this.profile(PageName.read("/writes/"))
        with pytest.raises(CannotRun, match="answers 500 where 200"):
            this.profile(PageName.read("/broken/"))
        with pytest.raises(CannotRun, match="answers 404"):
            this.block(PageName.read("/missing/"), 3)
    with closing(sqlite3.connect(shop.path / "shop.sqlite3")) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("goods_item", "django_session")
        ]
    assert counts == [200, 0]


@pytest.mark.parametrize("way", mailers.WAYS)
def test_a_page_that_mails_reaches_nobody(shop: Shop, way: str) -> None:
    files = mailers.said(way, mailers.FILES, file_path=str(shop.path / "mail"))
    own = SETTINGS % {"database": shop.path / "shop.sqlite3"}
    shop.write("src/shop/settings.py", own + mailers.as_text(files))
    mails = """
from django.core.mail import send_mail
def items(request):
    return HttpResponse(str(send_mail("a", "b", "c@example.org", ["d@example.org"])))
"""
    shop.write("src/goods/views.py", VIEWS + mails)
    with (
        override_settings(REHEARSAL=shop.setting()),
        side(shop.path, "this", make_report("A line.")) as this,
    ):
        this.profile(ITEMS)
    assert not (shop.path / "mail").exists()


def test_a_query_for_each_row_is_named_by_its_sql(shop: Shop) -> None:
    report = make_report("A line.")
    shop.change(MORE_QUERIES)
    with (
        override_settings(REHEARSAL=shop.setting()),
        tree_of(shop.first, report) as before,
        side(before, "before", report) as one,
        side(shop.path, "after", report) as other,
    ):
        found = compare_counts(one.profile(ITEMS), other.profile(ITEMS))
    assert found.change == Change.WORSE
    assert "3 → 24 queries" in found.said
    assert any('+21 × SELECT … FROM "goods_kind" WHERE' in said for said in found.said)
    assert any("N+1" in said for said in found.said)
    assert list(before.parent.iterdir()) == []


def test_three_samples_are_inconclusive(shop: Shop) -> None:
    report = make_report("A line.")
    with (
        override_settings(REHEARSAL=shop.setting()),
        side(shop.path, "before", report) as one,
        side(shop.path, "after", report) as other,
    ):
        found = session(ITEMS, one, other, budget=0)
    assert found.requests == 3
    assert found.change == Change.INCONCLUSIVE


@pytest.mark.long
def test_a_slower_page_is_found_and_confirmed_and_the_same_page_is_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "REQUESTS", 24)
    report = make_report("A line.")
    before = shop.path.parent / "before"
    with override_settings(REHEARSAL=shop.setting("/items/", "/cached/")):
        with tree_of(shop.first, report) as tree:
            tree.rename(before)
        # Ten milliseconds more are several times what the page takes.
        shop.change({"SLOWER = 0.0": "SLOWER = 0.01"})
        found = compare_trees(before, shop.path, [ITEMS, PageName.read("/cached/")], report, 120)
    slower, same = found["/items/"].times, found["/cached/"].times
    assert slower and same
    assert slower.change == Change.WORSE
    assert same.change in {Change.SAME, Change.INCONCLUSIVE, Change.BETTER}, same
    assert "compared once more" in report.output


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("0" * 40, "git has no files of it"),
        ("", "does not name a commit"),
        ("--output=/tmp/x", "does not name a commit"),
    ],
)
def test_a_revision_that_is_not_there_cannot_be_run(shop: Shop, revision: str, said: str) -> None:
    with (
        override_settings(REHEARSAL=shop.setting()),
        pytest.raises(CannotRun, match=said),
        tree_of(revision, make_report("A line.")),
    ):
        pass


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("src/shop/settings.py", "import no_such_package\n", "no_such_package"),
        ("src/goods/views.py", VIEWS.replace("def items", "def gone"), "items"),
    ],
)
def test_code_that_cannot_start_says_why(shop: Shop, file: str, text: str, said: str) -> None:
    shop.write(file, text)
    with (
        override_settings(REHEARSAL=shop.setting()),
        pytest.raises(CannotRun, match=said),
        side(shop.path, "this", make_report("A line.")),
    ):
        pass


def test_two_databases_are_not_compared(shop: Shop) -> None:
    report = make_report("A line.")
    text = (shop.path / "src" / "shop" / "settings.py").read_text()
    other = text.replace("shop.sqlite3", "other.sqlite3")
    (shop.path / "other.sqlite3").write_bytes((shop.path / "shop.sqlite3").read_bytes())
    with override_settings(REHEARSAL=shop.setting()), tree_of(shop.first, report) as before:
        shop.write("src/shop/settings.py", other)
        with pytest.raises(CannotRun, match="lead to the database"):
            compare_trees(before, shop.path, [ITEMS], report, 1)


def test_another_trees_code_is_not_taken_for_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "src").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(shop.path / "src"))
    with override_settings(REHEARSAL=shop.setting()):
        report = make_report("A line.")
        # What leads into the project leads into the other tree instead.
        with pytest.raises(CannotRun, match="shop"), side(tmp_path / "empty", "before", report):
            pass


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM b WHERE id IN (%s, %s,  %s)", "SELECT a FROM b WHERE id IN (…)"),
        ("SELECT a\n  FROM b LIMIT 21", "SELECT a FROM b LIMIT ?"),
        ("INSERT INTO b (x) VALUES (%s), (%s), (%s)", "INSERT INTO b (x) VALUES (…)"),
        ("SELECT 'it''s' FROM t2 WHERE c1 = -1.5", "SELECT ? FROM t2 WHERE c1 = ?"),
    ],
)
def test_queries_are_known_without_their_values(sql: str, expected: str) -> None:
    assert normalised(sql) == expected
