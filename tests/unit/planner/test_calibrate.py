"""Fitting recovers constants that made synthetic steps, outliers or not; by hand where possible."""

from __future__ import annotations

import math
from random import Random

import pytest

from ithaca.planner.calibrate import Constants, Form, Measured, Rule, StepModel, errors_of, fit
from ithaca.planner.layer import Layer
from ithaca.planner.profile import Profile

LAYERS = (
    Layer("embed", grad_bytes=160_000_000, forward_s=0.001, backward_s=0.001, step_s=0.006),
    *(
        Layer(f"b{k}", grad_bytes=60_000_000, forward_s=0.006, backward_s=0.013, step_s=0.002)
        for k in range(16)
    ),
    Layer("head", grad_bytes=160_000_000, forward_s=0.011, backward_s=0.023, step_s=0.006),
)
MODEL = StepModel(Profile(LAYERS, action_s=0.0, add_bytes_per_s=math.inf), 32)
LAYOUTS = [(p, s) for p in (1, 2, 3, 4) for s in (2, 3, 4, 6, 8, 12)]
TRUE = Constants(0.4, 0.003, 9e8)


def steps(form: Form, rule: Rule, noise: float = 0.0) -> list[Measured]:
    """Steps that ``TRUE`` makes, with relative noise."""
    rng = Random(0)
    return [
        Measured(p, s, MODEL.step_s(TRUE, form, rule, p, s) * (1 + rng.uniform(-noise, noise)))
        for p, s in LAYOUTS
    ]


@pytest.mark.parametrize("form", [Form.BESIDE, Form.BLOCKING])
@pytest.mark.parametrize("rule", Rule)
def test_constants_are_recovered(form: Form, rule: Rule) -> None:
    found = fit(MODEL, steps(form, rule), form, rule)
    assert found.constants.compute == pytest.approx(TRUE.compute, rel=1e-3)
    assert found.constants.message_s == pytest.approx(TRUE.message_s, rel=1e-2)
    assert found.constants.reduce_bytes_per_s == pytest.approx(TRUE.reduce_bytes_per_s, rel=1e-2)
    assert found.mean_error < 1e-3


def test_one_constant_is_recovered() -> None:
    alone = Constants(0.4)
    rows = [Measured(p, s, MODEL.step_s(alone, Form.COMPUTE, Rule.LAST, p, s)) for p, s in LAYOUTS]
    assert fit(MODEL, rows, Form.COMPUTE, Rule.LAST).constants.compute == pytest.approx(0.4)


def test_noise_and_an_outlier_do_not_pull_far() -> None:
    rows = steps(Form.BLOCKING, Rule.FIRST, noise=0.01)
    rows[5] = Measured(rows[5].pipelines, rows[5].stages, rows[5].step_s * 1.5)
    found = fit(MODEL, rows, Form.BLOCKING, Rule.FIRST)
    assert found.constants.compute == pytest.approx(TRUE.compute, rel=0.05)
    others = [error for place, error in enumerate(found.errors) if place != 5]
    assert max(map(abs, others)) < 0.03
    assert found.errors[5] == pytest.approx(-1 / 3, abs=0.03)


def test_the_wrong_form_is_seen_on_rows_that_were_not_fitted() -> None:
    rows = steps(Form.BLOCKING, Rule.FIRST)
    even, odd = rows[0::2], rows[1::2]
    right = fit(MODEL, even, Form.BLOCKING, Rule.FIRST)
    wrong = fit(MODEL, even, Form.COMPUTE, Rule.FIRST)
    assert max(map(abs, errors_of(MODEL, right, odd))) < 1e-3
    assert max(map(abs, errors_of(MODEL, wrong, odd))) > 0.05


def test_forms_by_hand() -> None:
    layer = Layer("l", grad_bytes=100, forward_s=1.0, backward_s=2.0, step_s=0.5)
    model = StepModel(Profile((layer,) * 4, action_s=0.0), 7)
    known = Constants(2.0, 0.25, 50.0)
    # 2 pipelines of 2 stages of 2 layers: 4 micro-batches; a stage computes 2 * 6 s.
    ring_and_step = 2 * 0.5 * 200 / 50 + 1.0
    for form, pipeline in (
        (Form.COMPUTE, 5 * 12.0),
        (Form.BESIDE, 5 * 12.0 + 2 * 0.25 + 3 * 2 * 0.25 / 2),
        (Form.BLOCKING, 5 * 12.5),
    ):
        found = model.step_s(known, form, Rule.FIRST, 2, 2)
        assert found == pytest.approx(pipeline + ring_and_step)


def test_the_rest_goes_where_the_rule_says() -> None:
    sizes = {rule: [len(span) for span in MODEL.split(rule, 4)] for rule in Rule}
    assert sizes[Rule.FIRST] == [5, 5, 4, 4]
    assert sizes[Rule.LAST] == [4, 4, 5, 5]
    assert sum(sizes[Rule.TIME]) == 18
    assert sizes[Rule.TIME][-1] < 5  # the head is slow


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="3 constants need at least as many"):
        fit(MODEL, steps(Form.BLOCKING, Rule.FIRST)[:2], Form.BLOCKING, Rule.FIRST)
    with pytest.raises(ValueError, match="18 layers do not make 19 stages"):
        MODEL.step_s(TRUE, Form.BLOCKING, Rule.FIRST, 1, 19)
