"""The tables of metrics in the docs are the metrics that are exposed."""

from __future__ import annotations

import pytest

from deploy.observability.metric_docs import DOCS_FILE, exposed, updated
from tests.support.source_tree import ROOT


def test_the_tables_of_metrics_are_current() -> None:
    text = (ROOT / DOCS_FILE).read_text()
    assert text == updated(text), "run: python -m deploy.observability.metric_docs"


def test_every_metric_says_what_it_is_in_a_sentence_and_follows_the_rules_of_names() -> None:
    for metric in (m for part in exposed() for m in part):
        assert metric.text.endswith("."), metric.name
        assert metric.name.startswith("hardcase_")
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        updated("# A page\n")
