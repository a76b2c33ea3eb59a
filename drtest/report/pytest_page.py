"""What the plugin puts into pytest-html's page: the matrix, and each cell's findings, as pieces of HTML."""

from collections.abc import Mapping
from typing import Any

from drtest.record.results import cell_entry
from drtest.report.cells import cell_view
from drtest.report.matrix import matrices, summary, worst_tone
from drtest.report.page import environment, stylesheet
from drtest.report.statements import statement_views
from drtest.scenario.plan import Cell
from drtest.verdict.evidence import Judgement


def style() -> str:
    """The stylesheet that the pieces need, once a page."""
    return stylesheet()


def matrix_html(results: Mapping[str, Any]) -> str:
    """The matrix of a run.

    Args:
        results: what ``results.json`` holds.
    """
    page = environment().get_template("piece_matrix.html")
    return page.render(
        matrices=matrices(results),
        summary=summary(results),
        worst=worst_tone(results),
        notices=results["notices"],
        statements=[
            (one.scenario, view)
            for one in matrices(results)
            for view in statement_views(results, one.scenario)
        ],
    )


def cell_html(entry: Mapping[str, Any]) -> str:
    """The findings of a cell.

    Args:
        entry: one entry of ``cells`` in the results.
    """
    return environment().get_template("piece_cell.html").render(cell=cell_view(entry))


def judgement_html(cell: Cell, judgement: Judgement) -> str:
    """The findings of a cell that was just judged."""
    return cell_html(cell_entry(cell, judgement))
