"""Similarities agree with their definitions written out, with the fixtures, and move only by what they depend on."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from marble.analysis.moments import Moments
from marble.analysis.similarity import LEAST_ROWS, MEASURES, similarity, similarity_of
from marble.errors import MarbleError

GOLDEN = {
    "pwcca_google": 0.53498379081,
    "pwcca_morcos_first": 0.48209003593,
    "pwcca_morcos_second": 0.51595200807,
    "mean_cca": 0.48470118640,
    "svcca": 0.48470118640,
    "linear_cka": 0.24477653274,
    "debiased_cka": 0.19934913176,
    "procrustes": 0.38725349236,
}
BY_UNITS = ("pwcca_google", "pwcca_morcos_first", "pwcca_morcos_second")


def related(rows=600, first=6, second=9, seed=0):
    """Two representations that share four dimensions, with means."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(rows, 4)) * [3, 2, 1, 0.5]
    x = common @ random.normal(size=(4, first)) + random.normal(size=(rows, first)) + 2
    return x, common @ random.normal(size=(4, second)) + random.normal(size=(rows, second)) - 1


def by_definition(x, y):
    """The measures from the matrices themselves: QR decompositions and Gram matrices in place of covariances."""
    n, (xc, yc) = len(x), (x - x.mean(0), y - y.mean(0))
    (qx, _), (qy, _) = np.linalg.qr(xc), np.linalg.qr(yc)
    left, rho, right = np.linalg.svd(qx.T @ qy, full_matrices=False)

    def weighted(variates, acts):
        weights = np.abs(variates.T @ acts).sum(1)
        return weights @ rho / weights.sum()

    def root(covariance, power):
        values, vectors = np.linalg.eigh(covariance)
        return vectors * values**power @ vectors.T

    def leading(centred):
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        return u[:, : int(np.searchsorted(np.cumsum(s**2) / (s**2).sum(), 0.99)) + 1]

    def hsic(k, m):
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        return np.trace(k @ m) + k.sum() * m.sum() / (n - 1) / (n - 2) - 2 / (n - 2) * (k @ m).sum()

    square = root(xc.T @ xc, -0.5) @ xc.T @ yc @ root(yc.T @ yc, -0.5)
    u, _, vt = np.linalg.svd(square, full_matrices=False)
    acts, centred, basis = (x, xc, u) if x.shape[1] <= y.shape[1] else (y, yc, vt.T)
    google, _ = np.linalg.qr(centred @ basis + acts.mean(0)[: len(rho)])
    gram = x @ x.T, y @ y.T
    return {
        "pwcca_google": weighted(google, acts),
        "pwcca_morcos_first": weighted(qx @ left, xc),
        "pwcca_morcos_second": weighted(qy @ right.T, yc),
        "mean_cca": rho.mean(),
        "svcca": np.linalg.svd(leading(xc).T @ leading(yc), compute_uv=False).mean(),
        "linear_cka": (np.linalg.norm(xc.T @ yc) ** 2 / np.linalg.norm(xc.T @ xc) / np.linalg.norm(yc.T @ yc)),
        "debiased_cka": hsic(*gram) / np.sqrt(hsic(gram[0], gram[0]) * hsic(gram[1], gram[1])),
        "procrustes": np.linalg.svd(xc.T @ yc, compute_uv=False).sum() / np.linalg.norm(xc) / np.linalg.norm(yc),
    }


@pytest.mark.parametrize("widths", [(6, 9), (9, 6), (7, 7), (1, 5)])
def test_every_measure_is_what_its_definition_gives(widths):
    x, y = related(300, *widths)
    assert similarity(x, y).values == pytest.approx(by_definition(x, y), abs=1e-10)


def test_golden_values():
    rows, units = np.arange(60)[:, None], np.arange(5)
    x = np.sin(rows * (1.3 + units) + units**2) + 0.2 * units
    y = np.cos(rows * (1.3 + units[:3])) + np.sin(rows**2 * (0.7 + units[:3])) - 1
    assert similarity(x, y).values == pytest.approx(GOLDEN, abs=1e-9)


@pytest.mark.parametrize("case", ["centred", "noise", "tall", "uneven"])
def test_the_fixtures(shared, case):
    of = load_file(shared / "fixtures" / "cca" / "pwcca.safetensors")
    seen = similarity(of[f"{case}.x"], of[f"{case}.y"])
    np.testing.assert_allclose(seen.correlations, of[f"{case}.cca"], atol=1e-6)
    names = {"pwcca_google": "pwcca_google", "pwcca_morcos_first": "pwcca_x", "pwcca_morcos_second": "pwcca_y"}
    for measure, name in names.items():
        assert seen.values[measure] == pytest.approx(of[f"{case}.{name}"].item(), abs=1e-6)


def test_the_similarity_of_a_representation_with_itself_is_one():
    x, _ = related()
    assert similarity(x, x).values == pytest.approx(dict.fromkeys(MEASURES, 1.0), abs=1e-9)
    moments = Moments([("x", "x")], lag=7)
    moments.add({"x": x})
    assert similarity_of(moments.finish(), "x", "x").values == pytest.approx(dict.fromkeys(MEASURES, 1.0), abs=1e-9)


def test_orthogonal_maps_leave_all_but_the_weights_over_units():
    x, y = related()
    random = np.random.default_rng(1)
    turned = [part @ np.linalg.qr(random.normal(size=(part.shape[1],) * 2))[0] for part in (x, y)]
    before, after = similarity(x, y).values, similarity(*turned).values
    for measure in set(MEASURES) - set(BY_UNITS):
        assert after[measure] == pytest.approx(before[measure], abs=1e-9), measure
    assert all(abs(after[measure] - before[measure]) > 1e-4 for measure in BY_UNITS)


def test_scales_and_the_order_of_units_leave_all():
    x, y = related()
    x, y = x - x.mean(0), y - y.mean(0)
    random = np.random.default_rng(1)
    before = similarity(x, y).values
    assert similarity(1e-3 * x, 700 * y).values == pytest.approx(before, abs=1e-9)
    assert similarity(x[:, random.permutation(6)], y[:, random.permutation(9)]).values == pytest.approx(before, abs=1e-9)


def test_an_invertible_map_leaves_the_correlations_and_the_weights_of_the_other():
    x, y = related()
    mapped = x @ np.random.default_rng(1).normal(size=(6, 6))
    before, after = similarity(x, y), similarity(mapped, y)
    np.testing.assert_allclose(after.correlations, before.correlations, atol=1e-9)
    for measure in ("mean_cca", "pwcca_morcos_second"):
        assert after.values[measure] == pytest.approx(before.values[measure], abs=1e-9)
    assert abs(after.values["linear_cka"] - before.values["linear_cka"]) > 1e-3


def test_unrelated_rows_fall_to_the_null_and_the_null_of_related_ones_to_that_of_chance():
    random = np.random.default_rng(3)
    x, y = random.normal(size=(4000, 20)), random.normal(size=(4000, 30))
    unrelated = similarity(x, y)
    for measure in MEASURES:
        assert unrelated.values[measure] == pytest.approx(unrelated.null[measure], abs=0.03), measure
    assert abs(unrelated.values["debiased_cka"]) < 0.002
    x, y = related(4000, 20, 30)
    seen = similarity(x, y)
    assert all(seen.values[measure] > seen.null[measure] + 0.1 for measure in MEASURES)
    assert seen.null["mean_cca"] == pytest.approx(unrelated.null["mean_cca"], abs=0.01)
    assert seen.null == similarity(x, y).null
    assert seen.null != similarity(x, y, seed=1).null


def test_units_that_repeat_others_are_left_out_with_a_sentence():
    x, y = related()
    for repeated in (np.hstack([x, x @ np.ones((6, 3))]), np.hstack([x, np.full((600, 1), 3.0)])):
        seen = similarity(repeated.astype(np.float32), y)
        assert seen.directions == (6, 9)
        assert seen.values["mean_cca"] == pytest.approx(similarity(x, y).values["mean_cca"], abs=1e-6)
        (note,) = seen.notes
        assert note.startswith(f"first has {repeated.shape[1]} units of rank 6")
    assert np.isfinite(list(similarity(repeated, y).values.values())).all()


def test_fewer_rows_than_units_give_no_similarity_of_one():
    random = np.random.default_rng(4)
    seen = similarity(random.normal(size=(41, 100)), random.normal(size=(41, 60)))
    assert seen.directions == (10, 10)
    assert max(seen.correlations) < 0.999
    assert all(abs(seen.values[measure] - seen.null[measure]) < 0.15 for measure in MEASURES)
    assert seen.notes[0].startswith("first has 100 units but only 41 rows: CCA takes its first 10 principal directions, ")


def test_a_constant_representation_is_similar_to_nothing():
    seen = similarity(np.full((50, 3), 0.1), np.random.default_rng(0).normal(size=(50, 2)))
    assert np.isnan(list(seen.values.values())).all()
    assert seen.notes == ["first is constant over all 50 rows, so nothing is similar to it."]


def test_what_cannot_be_computed_is_refused():
    x, y = related(20)
    with pytest.raises(MarbleError, match="needs 5 rows, and there are 4"):
        similarity(x[: LEAST_ROWS - 1], y[: LEAST_ROWS - 1])
    with pytest.raises(MarbleError, match="no measure 'cka': write pwcca_google, "):
        similarity(x, y, ["cka"])
    x[3, 2] = np.nan
    with pytest.raises(MarbleError, match="first has values that are not finite"):
        similarity(x, y)
    with pytest.raises(ValueError, match="cannot be paired"):
        similarity(x, y[1:])


@pytest.mark.parametrize("lag", [1, 40, 3000, 9000])
def test_a_stream_gives_what_the_whole_gives(lag):
    x, y = related(5000)
    x, y = x + np.linspace(0, 5, 5000)[:, None], y - np.linspace(0, 3, 5000)[:, None]  # no chunk has the mean of the whole
    far = x + 1e4  # a mean that would cost digits
    moments = Moments([("x", "y"), ("y", "x")], lag)
    for part in np.split(np.arange(5000), [3, 4, 700, 3333, 4990]):
        moments.add({"x": far[part], "y": y[part]})
    assert moments.finish().count == 5000
    measures = [measure for measure in MEASURES if measure != "pwcca_google"]
    seen = similarity_of(moments, "x", "y", measures)
    assert seen.values == pytest.approx(similarity(x, y, measures).values, abs=1e-9)
    roll = lag if lag < 5000 else 2500
    assert seen.null == pytest.approx(similarity(x, np.roll(y, roll, axis=0), measures).values, abs=1e-9)
    other = similarity_of(moments, "y", "x")
    for measure in ("mean_cca", "debiased_cka", "procrustes"):
        assert other.values[measure] == pytest.approx(seen.values[measure], abs=1e-9)


def test_the_order_of_chunks_counts_for_the_null_alone():
    x, y = related(900)
    parts = np.split(np.arange(900), 9)
    seen = []
    for order in (range(9), reversed(range(9))):
        moments = Moments([("x", "y")], 10)
        for number in order:
            moments.add({"x": x[parts[number]], "y": y[parts[number]]})
        seen.append(similarity_of(moments.finish(), "x", "y"))
    assert seen[0].values == pytest.approx(seen[1].values, abs=1e-10)
    assert seen[0].null != seen[1].null
