"""The panel that says by what P(wrong) is given, and which refits were tried."""

from __future__ import annotations

from monitoring.api.fit_models import ScoreFit, score_fits
from monitoring.api.views import View
from monitoring.console.fit_parts import FitLine, FitsBlock

SHOWN = 12


def fits_block(view: View, model: str, version: str) -> FitsBlock:
    """Which model is in force, in a sentence, and the newest refits."""
    found = score_fits(view, model, version, SHOWN)
    if found.problem is not None:
        sentence = found.problem
    elif found.in_force:
        force = next((fit for fit in found.fits if fit.number == found.in_force), None)
        labels = "" if force is None else f", fitted on {force.labels:,} labels of live traffic"
        sentence = f"refit {found.in_force}{labels}"
    elif found.exported:
        sentence = "the model made at export; no refit was better yet"
    else:
        sentence = "one minus the largest probability: the reference had too few errors to fit a model"
    return FitsBlock(sentence=sentence, lines=tuple(_line(fit, fit.number == found.in_force) for fit in found.fits))


def _line(fit: ScoreFit, in_force: bool) -> FitLine:
    return FitLine(
        number=fit.number,
        adopted=fit.state.value == "adopted",
        in_force=in_force,
        until=fit.until.isoformat(),
        labels=fit.labels,
        audited=fit.audited,
        augrc=(fit.new.augrc, fit.present.augrc, fit.msp.augrc),
        auroc=(fit.new.auroc, fit.present.auroc, fit.msp.auroc),
        reason=fit.reason,
    )
