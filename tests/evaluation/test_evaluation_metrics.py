"""Metrics against closed forms and independent routes."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from sagan.evaluation.metrics import (
    Moments,
    density_coverage,
    fid,
    fid_of_few,
    inception_score,
    intra_fid,
    kid,
    moments,
    precision_recall,
)


def draw(n, d, seed, scale=1.0, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_fid_of_two_known_gaussians():
    """Diagonal covariances commute: FID = |m1 - m2|^2 + sum (s1 - s2)^2."""
    m1, m2 = torch.tensor([0.0, 1, 2]).double(), torch.tensor([1.0, 1, 0]).double()
    s1, s2 = torch.tensor([1.0, 2, 3]).double(), torch.tensor([2.0, 2, 0.5]).double()
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert fid(Moments(9, m1, (s1**2).diag()), Moments(9, m2, (s2**2).diag())) == pytest.approx(expected.item(), 1e-12)


def test_fid_of_rotated_gaussians_is_the_same():
    """FID does not depend on the axes; here S1 and S2 are not diagonal."""
    rotation = torch.linalg.qr(draw(3, 3, 0).double()).Q
    s1, s2 = torch.tensor([1.0, 4, 9]).double(), torch.tensor([4.0, 4, 0.25]).double()
    zero = torch.zeros(3).double()
    a, b = (Moments(9, zero, rotation @ s.diag() @ rotation.T) for s in (s1, s2))
    assert fid(a, b) == pytest.approx((s1.sqrt() - s2.sqrt()).square().sum().item(), 1e-9)


@pytest.mark.parametrize("n, m", [(20, 30), (20, 200), (200, 20), (200, 300)])
def test_the_form_for_few_equals_the_eigenvalue_form(n, m):
    a, b = draw(n, 64, 0), draw(m, 64, 1, scale=1.5, shift=0.2)
    assert fid_of_few(a, b) == pytest.approx(fid(moments(a), moments(b)), 1e-6)


def test_fid_of_a_set_with_itself_is_zero_and_not_below():
    a = draw(100, 32, 0)
    assert 0 <= fid(moments(a), moments(a)) < 1e-5
    assert 0 <= fid_of_few(a, a) < 1e-9


@pytest.mark.parametrize("chunk", [7, 1000])
def test_moments_equal_numpy_far_from_the_origin(chunk):
    """At an offset of 1e3 a sum of float32 squares would have no digits left for a variance of 1e-2."""
    x = draw(500, 16, 0, scale=0.1, shift=1e3)
    m = moments(x, chunk)
    np.testing.assert_allclose(m.mean, x.double().numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(m.cov, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 10])
def test_inception_score_of_sure_and_balanced_predictions_is_the_number_of_classes(classes):
    logits = 100.0 * torch.eye(classes).repeat(2000 // classes, 1)
    assert inception_score(logits, splits=1) == (pytest.approx(classes, 1e-9), 0)


def test_inception_score_of_one_answer_for_all_is_one():
    assert inception_score(torch.tensor([[9.0, 0, 0]]).repeat(50, 1))[0] == pytest.approx(1)


def test_kid_equals_its_definition():
    """One subset of all: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), without the diagonals (Binkowski eq. 4)."""
    x, y = draw(60, 8, 0), draw(60, 8, 1, shift=0.5)
    kernel = lambda a, b: (a.double() @ b.double().T / 8 + 1) ** 3  # noqa: E731
    off = lambda k: (k.sum() - k.trace()) / (60 * 59)  # noqa: E731
    expected = off(kernel(x, x)) + off(kernel(y, y)) - 2 * kernel(x, y).mean()
    mean, std = kid(x, y)
    assert mean == pytest.approx(expected.item(), 1e-5)
    assert math.isnan(std)  # one subset has no spread


def test_kid_takes_subsets_where_a_set_is_larger():
    mean, std = kid(draw(80, 8, 0), draw(60, 8, 1))
    assert abs(mean) < 0.2 and std > 0


def test_precision_and_recall_are_not_swapped():
    """Fakes sit on one of two real modes: all of them look real, and half the real images are covered."""
    near, far = draw(200, 4, 0), draw(200, 4, 1, shift=100)
    precision, recall = precision_recall(real=torch.cat([near, far]), fake=draw(200, 4, 2))
    assert precision > 0.8 and 0.3 < recall <= 0.5


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("rows", [7, 1000])
def test_density_and_coverage_equal_their_equations(k, rows):
    """By a k-d tree, whose distances are exact, and a loop over the real images (Naeem et al. 2020, eq. 5 and 6)."""
    real, fake = draw(120, 6, 0), draw(90, 6, 1, scale=0.8, shift=0.1)
    tree, counts = cKDTree(real.double().numpy()), []
    for x in real.double().numpy():
        distances, _ = tree.query(x, k + 1)  # itself, and k others
        counts.append(sum(math.dist(x, y) < distances[-1] for y in fake.double().numpy()))
    expected = sum(counts) / (k * 90), sum(c > 0 for c in counts) / 120
    assert density_coverage(real, fake, k, rows) == pytest.approx(expected, 1e-12)
    assert 0 < expected[1] < 1


def test_density_and_coverage_of_one_distribution_are_known():
    """E density = 1 and E coverage = 1 - (N - 1)...(N - k) / ((N + M - 1)...(N + M - k)) (their section 3.3)."""
    n, m, k = 400, 300, 5
    found = torch.tensor([density_coverage(draw(n, 8, 2 * s), draw(m, 8, 2 * s + 1), k) for s in range(20)])
    expected = 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    mean, error = found.mean(0), found.std(0) / 20**0.5
    assert abs(mean[0] - 1) < 4 * error[0] and abs(mean[1] - expected) < 4 * error[1]
    assert error.max() < 0.02


def test_density_and_coverage_are_not_swapped_and_outliers_do_not_help():
    """Fakes on one of two real modes are dense and cover half. One real outlier has a huge ball, of little weight."""
    near, far = draw(200, 4, 0), draw(200, 4, 1, shift=100)
    density, coverage = density_coverage(torch.cat([near, far]), draw(200, 4, 2))
    assert density > 0.8 and 0.4 < coverage <= 0.5
    outlier = torch.cat([draw(200, 4, 0), torch.full((1, 4), 30.0)])
    fakes = draw(200, 4, 3, shift=15)
    assert precision_recall(outlier, fakes)[0] > 0.8 and density_coverage(outlier, fakes)[0] <= 0.2


def test_intra_fid_is_the_mean_over_classes_at_equal_n():
    real, fake = draw(300, 6, 0), draw(100, 6, 1, shift=0.3)
    real_y, fake_y = torch.arange(300) % 3, torch.tensor([0] * 20 + [1] * 30 + [2] * 50)
    out = intra_fid(real, real_y, fake, fake_y)
    by_hand = [fid(moments(real[real_y == c]), moments(fake[fake_y == c][:20])) for c in range(3)]
    assert out.n == 20
    assert list(out.per_class.values()) == pytest.approx(by_hand, 1e-6)
    assert out.mean == pytest.approx(sum(by_hand) / 3, 1e-6)


def test_intra_fid_sees_exchanged_classes_where_fid_does_not():
    """The reason to have it: labels that mean nothing leave FID as it is."""
    y = torch.arange(400) % 2
    real, fake = (draw(400, 6, seed) + 5 * y[:, None] for seed in (0, 1))
    assert intra_fid(real, y, fake, 1 - y).mean > 100 * intra_fid(real, y, fake, y).mean


@pytest.mark.parametrize(
    "call",
    [
        lambda: moments(draw(1, 4, 0)),
        lambda: fid_of_few(draw(1, 4, 0), draw(9, 4, 0)),
        lambda: inception_score(draw(9, 4, 0)),
        lambda: kid(draw(1, 4, 0), draw(9, 4, 0)),
        lambda: precision_recall(draw(3, 4, 0), draw(9, 4, 0)),
        lambda: density_coverage(draw(5, 4, 0), draw(9, 4, 0)),
        lambda: density_coverage(draw(9, 4, 0), draw(0, 4, 0)),
    ],
)
def test_too_few_samples_are_an_error_not_a_number(call):
    with pytest.raises(ValueError, match="need"):
        call()
