"""Metrics as pure functions of features and logits: torch-fidelity's, intra-class FID, density and coverage.

Features are float32 (n, d) on the CPU, with the same d everywhere. The random subsets of KID and the random splits of
the inception score are torch-fidelity's fixed draws, seed 2020. That library is imported when it is needed, because it
imports torchvision and with it torch's compiler, which takes as long as torch itself.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000


class Moments(NamedTuple):
    """Number, mean and covariance of n features of width d: all that FID reads of a set."""

    n: int
    mean: Tensor  # (d,), float64
    cov: Tensor  # (d, d), float64, divided by n - 1


def moments(features: Tensor, chunk: int = 4096) -> Moments:
    """Return mean and covariance in float64, in two passes of `chunk` rows at a time to save memory."""
    n, d = features.shape
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {n}")
    mean = torch.zeros(d, dtype=torch.float64)
    for part in features.split(chunk):
        mean += part.double().sum(0)
    mean /= n
    scatter = torch.zeros(d, d, dtype=torch.float64)
    for part in features.split(chunk):
        centred = part.double() - mean
        scatter.addmm_(centred.T, centred)
    return Moments(n, mean, scatter / (n - 1))


def fid(a: Moments, b: Moments) -> float:
    """Return the Frechet distance of two Gaussians, |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) (Heusel et al. 2017).

    It cannot be negative. Rounding puts equal sets within about 1e-6 of 0 on either side; negative results become 0.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    first, second = ({"mu": m.mean.numpy(), "sigma": m.cov.numpy()} for m in (a, b))
    return max(0.0, fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID])


def fid_of_few(a: Tensor, b: Tensor) -> float:
    """Return `fid` from the features (n, d), (m, d): the same value, in a fraction of the time if n or m < d.

    With X and Y the centred features over sqrt(n - 1) and sqrt(m - 1), tr sqrt(S1 S2) is the sum of the singular values
    of X Y^T. Either may be replaced by the triangle of its QR decomposition, which has the same Gram matrix.
    """
    (mean_a, x), (mean_b, y) = _centred(a), _centred(b)
    cross = torch.linalg.svdvals(_short(x) @ _short(y).T).sum()
    distance = (mean_a - mean_b).square().sum() + x.square().sum() + y.square().sum() - 2 * cross
    return max(0.0, distance.item())


def _centred(features: Tensor) -> tuple[Tensor, Tensor]:
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(features)}")
    features = features.double()
    mean = features.mean(0)
    return mean, (features - mean) / (len(features) - 1) ** 0.5


def _short(x: Tensor) -> Tensor:
    return x if x.shape[0] <= x.shape[1] else torch.linalg.qr(x, mode="r").R


def inception_score(logits: Tensor, splits: int = 10) -> tuple[float, float]:
    """Return mean and standard deviation of exp E KL(p(y|x) || p(y)) over `splits` parts (Salimans et al. 2016)."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    if len(logits) < splits:
        raise ValueError(f"{splits} splits need at least as many samples, got {len(logits)}")
    out = isc_features_to_metric(logits, splits=splits)
    return out[KEY_METRIC_ISC_MEAN], out[KEY_METRIC_ISC_STD]


def kid(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Return mean and std of the unbiased squared MMD with a cubic kernel (Binkowski et al. 2018).

    They are taken over 100 subsets of min(1000, n). If neither set is larger than a subset, all subsets are the same:
    one is computed, and std is NaN. Unlike FID, KID is not biased by n, and it may be slightly below 0.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    size = min(KID_SUBSET_SIZE, len(real), len(fake))
    if size < 2:
        raise ValueError(f"KID needs at least 2 samples of each kind, got {len(real)} real and {len(fake)} generated")
    subsets = 1 if len(real) == len(fake) == size else KID_SUBSETS
    out = kid_features_to_metric(fake, real, kid_subsets=subsets, kid_subset_size=size, verbose=False)
    return out[KEY_METRIC_KID_MEAN], out[KEY_METRIC_KID_STD] if subsets > 1 else float("nan")


def precision_recall(real: Tensor, fake: Tensor, neighbourhood: int = 3) -> tuple[float, float]:
    """Return the share of fakes within the manifold of real images, and of real images within that of fakes.

    A manifold is the union of balls that reach to the k-th neighbour (Kynkaanniemi et al. 2019, who use VGG features;
    here the features are the extractor's).
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    if min(len(real), len(fake)) <= neighbourhood:
        raise ValueError(f"{neighbourhood} neighbours need more samples, got {len(real)} and {len(fake)}")
    # Input 1 is the generated side, input 2 the real one. Blocks of 2000 rows bound the size of the distance tables.
    out = prc_features_to_metric(
        fake, real, prc_neighborhood=neighbourhood, prc_batch_size=2000, save_cpu_ram=True, verbose=False
    )
    return out[KEY_METRIC_PRECISION], out[KEY_METRIC_RECALL]


def density_coverage(real: Tensor, fake: Tensor, neighbourhood: int = 5, rows: int = 1024) -> tuple[float, float]:
    """Return density and coverage of the balls around the real images that reach to their k-th neighbour.

        density  = 1 / (k M) sum_j #{i: |Y_j - X_i| < NND_k(X_i)}       X: N real images, Y: M generated ones
        coverage = 1 / N #{i: there is a j with |Y_j - X_i| < NND_k(X_i)}

    Density has no upper bound; its expectation is 1 if both sets follow one distribution. Distances are taken in
    float64, `rows` real images at a time.

    Source: Naeem et al. 2020, equations 5 and 6; k = 5 and the strict inequality are those of the authors' code. Raise
    ValueError unless there are more than k real images and at least one generated one.
    """
    if len(real) <= neighbourhood or len(fake) == 0:
        raise ValueError(
            f"{neighbourhood} neighbours need more samples, got {len(real)} real and {len(fake)} generated"
        )
    real, fake = real.double(), fake.double()
    inside = covered = 0
    for part in real.split(rows):
        # The nearest to each real image is itself, at distance 0.
        radius = torch.cdist(part, real).kthvalue(neighbourhood + 1, dim=1).values
        within = torch.cdist(part, fake) < radius[:, None]
        inside += int(within.sum())
        covered += int(within.any(1).sum())
    return inside / (neighbourhood * len(fake)), covered / len(real)


class IntraFid(NamedTuple):
    """FID within each class, and its mean over the classes."""

    mean: float
    per_class: dict[int, float]  # label -> FID
    n: int  # generated images per class


def intra_fid(real: Tensor, real_labels: Tensor, fake: Tensor, fake_labels: Tensor) -> IntraFid:
    """Return the FID of each class against its real images, and their mean (Miyato & Koyama 2018).

    Uniform labels do not fill classes equally, and FID depends on n. So every class is measured on its first n
    generated images, where n is the number that the rarest class has. The real side uses all images.
    """
    classes = real_labels.unique().tolist()
    n = min(int((fake_labels == c).sum()) for c in classes)
    per_class = {c: fid_of_few(real[real_labels == c], fake[fake_labels == c][:n]) for c in classes}
    return IntraFid(float(np.mean(list(per_class.values()))), per_class, n)
