"""What the API says about P(wrong): which model is in force, and every refit that was tried."""

from __future__ import annotations

from pydantic import Field

from export.contracts.reference import ClassReference
from monitoring.api import fields
from monitoring.api.fields import Answer, Time
from monitoring.api.views import View
from monitoring.score_fits.refit import FitState, Judged
from monitoring.score_fits.rows import StoredFit, read_fits


class Ranking(Answer):
    """How well one P(wrong) does on the labels. Every model is judged on records that it never saw."""

    augrc: float | None = Field(description="Area under the generalised risk-coverage curve: smaller is better.")
    auroc: float | None = Field(description="Chance that a wrong answer is more suspicious than a right one.")
    log_loss: float | None = Field(description="Nats; smaller is better calibrated.")

    @classmethod
    def of(cls, judged: Judged) -> Ranking:
        """From the evidence."""
        return cls(augrc=judged.augrc, auroc=judged.auroc, log_loss=judged.log_loss)


class ScoreFit(Answer):
    """A refit that was tried, adopted or not."""

    number: int = Field(description="1, 2, ... within the version; `fit` of the records that it scored.")
    state: FitState
    until: Time = Field(description="Labels given before this were used.")
    active: Time = Field(description="Records from this time on are scored with it, if it was adopted.")
    labels: int
    wrong: int
    audited: int = Field(description="Labels of records drawn at random.")
    reviewed: int = Field(description="Labels of records that the scores had picked; weighted by their share.")
    left_out: int = Field(description="Labels that came by themselves, and so may say more of failures.")
    effective: float = Field(description="Labels that an unweighted sample of the same precision would have.")
    error_rate: float = Field(description="Of the traffic that the labels stand for.")
    new: Ranking
    present: Ranking = Field(description="The model that was in force.")
    msp: Ranking = Field(description="The largest probability alone: what no model may rank worse than.")
    weights: dict[str, float] = Field(description="Weight of each score, in standard deviations; never negative.")
    reason: str = Field(description="The decision in words.")

    @classmethod
    def of(cls, fit: StoredFit) -> ScoreFit:
        """From a stored row."""
        e, model = fit.evidence, fit.fit.model
        return cls(
            number=fit.number,
            state=fit.state,
            until=fields.from_ns(fit.until_ns),
            active=fields.from_ns(fit.active_ns),
            labels=e.labels,
            wrong=e.wrong,
            audited=e.audited,
            reviewed=e.reviewed,
            left_out=e.left_out,
            effective=e.effective,
            error_rate=e.error_rate,
            new=Ranking.of(e.new),
            present=Ranking.of(e.present),
            msp=Ranking.of(e.msp),
            weights=dict(zip(model.features, model.weights, strict=True)),
            reason=e.reason,
        )


class ScoreFits(Answer):
    """P(wrong) of a version. A record keeps the P(wrong) that it was given; its `fit` says by which model."""

    model: str
    version: str
    in_force: int | None = Field(description="Number of the refit in force; 0: the one made at export; null: none.")
    exported: list[str] = Field(description="Scores of the model made at export; none: 1 - MSP.")
    problem: str | None = Field(description="Why nothing can be fitted, if so.")
    fits: list[ScoreFit] = Field(description="Newest first.")


def score_fits(view: View, model: str, version: str | None, limit: int) -> ScoreFits:
    """P(wrong) of a version: the model in force and the refits.

    Raises:
        NotFound: unknown model or version.
    """
    view.known(model, version)
    chosen = version or view.default_version(model)
    with view.store.read() as connection:
        fits = read_fits(connection, model, chosen)
    profile = view.baseline(model, chosen).profile
    classes = None if profile is None else profile.classes
    adopted = [fit.number for fit in fits if fit.state is FitState.ADOPTED]
    made = None if classes is None else classes.failure_model
    return ScoreFits(
        model=model,
        version=chosen,
        in_force=adopted[-1] if adopted else None if classes is None else 0,
        exported=[] if made is None else list(made.features),
        problem=problem(classes),
        fits=[ScoreFit.of(fit) for fit in reversed(fits)][:limit],
    )


def problem(classes: ClassReference | None) -> str | None:
    """Why P(wrong) of a version cannot be fitted again."""
    if classes is None:
        return "not enough data: the version has no reference of a classifier"
    if classes.score_rows is None:
        return "not enough data: the reference was made before it kept scores; export the version again"
    return None
