"""Independent references for T(x) of every kind, from its equations: explicit sums over positions and kernel taps.

Slow and plain on purpose. Nothing here calls the package, nor any torch kernel but element-wise ones and einsum.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Options = dict


class Parameters:
    """The parameters and statistics of a layer by name."""

    def __init__(self, layer: torch.nn.Module):
        self.tensors = {k: v.detach() for k, v in [*layer.named_parameters(), *layer.named_buffers()]}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def conv(self, name: str, x: Tensor, dilation: int = 1) -> Tensor:
        """Convolve with any odd kernel, as a sum of shifted maps over its taps."""
        weight, (height, width) = self[f"{name}.weight"], x.shape[2:]
        if weight.dim() == 2:
            weight = weight[:, :, None, None]
        reach = dilation * (weight.shape[-1] // 2)
        padded = pad(x, reach, reach, 0.0)
        y = sum(
            torch.einsum(
                "oi,nihw->nohw", weight[:, :, i, j], shifted(padded, i * dilation, j * dilation, height, width)
            )
            for i in range(weight.shape[2])
            for j in range(weight.shape[3])
        )
        return y + self.tensors.get(f"{name}.bias", torch.zeros(len(weight), dtype=x.dtype))[:, None, None]

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Apply batch norm with running statistics; the identity if the layer has none."""
        if f"{name}.running_mean" not in self.tensors:
            return x
        mean, var, gain, bias = (
            self[f"{name}.{key}"].reshape(-1, 1, 1)
            for key in ("running_mean", "running_var", "gain.weight", "bias.weight")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gain + bias

    def conv_norm(self, name: str, x: Tensor, dilation: int = 1) -> Tensor:
        h = self.norm(f"{name}.norm", self.conv(f"{name}.conv", x, dilation))
        return torch.where(h > 0, h, 0.01 * h)


def pad(x: Tensor, before: int, after: int, value: float) -> Tensor:
    n, c, h, w = x.shape
    out = torch.full((n, c, h + before + after, w + before + after), value, dtype=x.dtype)
    out[:, :, before : before + h, before : before + w] = x
    return out


def shifted(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    return x[:, :, top : top + height, left : left + width]


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def pool(x: Tensor, how: str = "max") -> Tensor:
    corners = torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    return corners.amax(0) if how == "max" else corners.mean(0)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly, with aligned corners."""
    for dim, target in ((2, size[0]), (3, size[1])):
        at = torch.arange(target, dtype=x.dtype) * (x.shape[dim] - 1) / (target - 1)
        low = (
            at.floor().long().clamp(max=x.shape[dim] - 2) if x.shape[dim] > 1 else torch.zeros(target, dtype=torch.long)
        )
        high = (low + 1).clamp(max=x.shape[dim] - 1)
        share = (at - low).view(-1, *[1] * (3 - dim))
        x = x.index_select(dim, low) * (1 - share) + x.index_select(dim, high) * share
    return x


def attend(
    query: Tensor, key: Tensor, value: Tensor, score: Callable, *, softmax: bool = True, allowed: Callable | None = None
) -> Tensor:
    """Attend one query position at a time: score(q, k, (y, x) of q, (y, x) of k) for every key, then sum the values."""
    out = torch.zeros(len(query), value.shape[1], *query.shape[2:], dtype=query.dtype)
    grid = [(y, x) for y in range(key.shape[2]) for x in range(key.shape[3])]
    for n in range(len(query)):
        for y in range(query.shape[2]):
            for x in range(query.shape[3]):
                keys = [k for k in grid if allowed is None or allowed((y, x), k)]
                e = torch.stack([score(query[n, :, y, x], key[n, :, i, j], (y, x), (i, j)) for i, j in keys])
                weights = e.exp() / e.exp().sum() if softmax else e / len(keys)
                out[n, :, y, x] = sum(w * value[n, :, i, j] for w, (i, j) in zip(weights, keys, strict=True))
    return out


def dot(scale: float = 1.0) -> Callable:
    return lambda q, k, *places: scale * (q * k).sum()


def residual(p: Parameters, x: Tensor, o: Options) -> Tensor:
    for name in ("conv1", "conv2", "conv3"):
        x = p.conv(name, relu(x))
    return x


def sagan(p: Parameters, x: Tensor, o: Options) -> Tensor:
    key, value = p.conv("key", x), p.conv("value", x)
    if o.get("variant", "code") == "code":
        key, value = pool(key), pool(value)
    out = attend(p.conv("query", x), key, value, dot())
    return out if o.get("variant") == "v1" else p.conv("out", out)


def multihead(p: Parameters, x: Tensor, o: Options) -> Tensor:
    heads, positions, (height, width) = o.get("heads", 8), o.get("positions", "none"), x.shape[2:]
    d = x.shape[1] // heads
    if positions in ("learned", "sinusoidal"):
        x = x + p["table"]
    query, key, value = p.conv("query", x), p.conv("key", x), p.conv("value", x)
    stride = 1
    if o.get("pool"):
        key, value, stride = pool(key, o["pool"]), pool(value, o["pool"]), 2

    def score(q, k, at, key_at):
        if positions == "relative":
            k = k + p["row_table"][stride * key_at[0] - at[0] + height - 1]
            k = k + p["column_table"][stride * key_at[1] - at[1] + width - 1]
        return (q * k).sum() / d**0.5

    parts = [attend(*(t[:, h * d : (h + 1) * d] for t in (query, key, value)), score) for h in range(heads)]
    return p.conv("out", torch.cat(parts, dim=1))


def additive(p: Parameters, x: Tensor, o: Options) -> Tensor:
    key, value = p.conv("key", x), p.conv("value", x)
    if o.get("pool", True):
        key, value = pool(key), pool(value)
    return p.conv("out", attend(p.conv("query", x), key, value, lambda q, k, *places: (p["v"] * (q + k).tanh()).sum()))


def non_local(p: Parameters, x: Tensor, o: Options) -> Tensor:
    form, subsample = o.get("form", "embedded-gaussian"), o.get("subsample", "pool-first")
    source = pool(x) if subsample == "pool-first" else x
    query, key = (x, source) if form == "gaussian" else (p.conv("theta", x), p.conv("phi", source))
    value = p.conv("g", source)
    if subsample == "conv-first":
        key, value = pool(key), pool(value)
    score = dot(query.shape[1] ** -0.5 if o.get("scale", True) and "gaussian" in form else 1.0)
    if form == "concatenation":
        score = lambda q, k, *places: relu(p["pair.weight"][0] @ torch.cat([q, k]))  # noqa: E731
    return p.norm("norm", p.conv("out", attend(query, key, value, score, softmax="gaussian" in form)))


def context(p: Parameters, name: str, x: Tensor, windows: int = 1) -> Tensor:
    key = p.conv_norm(f"{name}.key", x)
    height, width = x.shape[2] // windows, x.shape[3] // windows

    def same_window(a, b):
        return a[0] // height == b[0] // height and a[1] // width == b[1] // width

    out = attend(key, key, p.conv(f"{name}.value", x), dot(key.shape[1] ** -0.5), allowed=same_window)
    return p.conv(f"{name}.out", out)


def base_oc(p: Parameters, x: Tensor, o: Options) -> Tensor:
    return p.conv_norm("fuse", torch.cat([context(p, "context", x), x], dim=1))


def pyramid_oc(p: Parameters, x: Tensor, o: Options) -> Tensor:
    levels = [context(p, f"contexts.{i}", x, s) for i, s in enumerate(o.get("windows", [1, 2]))]
    return p.conv_norm("fuse", torch.cat([p.conv_norm("widen", x), *levels], dim=1))


def asp_oc(p: Parameters, x: Tensor, o: Options) -> Tensor:
    h = enlarge(context(p, "context", pool(p.conv_norm("before", x))), x.shape[2:])
    atrous = [p.conv_norm(f"atrous.{i}", x, dilation=i + 1) for i in range(3)]
    return p.conv_norm("fuse", torch.cat([p.conv_norm("after", h), p.conv_norm("point", x), *atrous], dim=1))


def bottleneck(p: Parameters, z: Tensor) -> Tensor:
    return p.conv("excite", relu(p.conv("squeeze", z)))


def mean(x: Tensor) -> Tensor:
    return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


def se(p: Parameters, x: Tensor, o: Options) -> Tensor:
    return x * torch.sigmoid(bottleneck(p, mean(x)))


def eca(p: Parameters, x: Tensor, o: Options) -> Tensor:
    kernel, z = p["weight"], mean(x)[:, :, 0, 0]
    reach, logits = len(kernel) // 2, torch.zeros_like(z)
    for c in range(z.shape[1]):
        for i, w in enumerate(kernel):
            if 0 <= c + i - reach < z.shape[1]:
                logits[:, c] += w * z[:, c + i - reach]
    return x * torch.sigmoid(logits)[:, :, None, None]


def ge(p: Parameters, x: Tensor, o: Options) -> Tensor:
    variant, e, (height, width) = o["variant"], o["extent"], x.shape[2:]
    if e == "global":
        z = mean(x) if variant == "theta-minus" else depthwise(p, "gather.0", x, 1, 0)
    elif variant == "theta-minus":
        rows, columns = -(-height // e), -(-width // e)
        z = torch.zeros(*x.shape[:2], rows, columns, dtype=x.dtype)
        for i in range(rows):
            for j in range(columns):
                top, left = max(e * i - e + 1, 0), max(e * j - e + 1, 0)
                z[:, :, i : i + 1, j : j + 1] = mean(x[:, :, top : e * i + e, left : e * j + e])
    else:
        z = x
        for i in range({2: 1, 4: 2, 8: 3}[e]):
            z = depthwise(p, f"gather.{2 * i}", relu(z) if i else z, 2, 1)
    if variant == "theta-plus":
        z = p.conv("excite.3", relu(p.conv("excite.1", relu(z))))
    row = [i * z.shape[2] // height for i in range(height)]
    column = [i * z.shape[3] // width for i in range(width)]
    return x * torch.sigmoid(z[:, :, row][:, :, :, column])


def depthwise(p: Parameters, name: str, x: Tensor, stride: int, padding: int) -> Tensor:
    kernel, padded = p[f"{name}.weight"][:, 0], pad(x, padding, padding, 0.0)
    rows = (padded.shape[2] - kernel.shape[1]) // stride + 1
    columns = (padded.shape[3] - kernel.shape[2]) // stride + 1
    y = torch.zeros(*x.shape[:2], rows, columns, dtype=x.dtype)
    for i in range(rows):
        for j in range(columns):
            part = shifted(padded, stride * i, stride * j, *kernel.shape[1:])
            y[:, :, i, j] = (part * kernel).sum((2, 3))
    if f"{name}.bias" in p.tensors:
        y = y + p[f"{name}.bias"][:, None, None]
    return p.norm(f"{name}.norm", y)


def cbam(p: Parameters, x: Tensor, o: Options) -> Tensor:
    if o.get("parts") != "spatial":
        x = x * torch.sigmoid(bottleneck(p, mean(x)) + bottleneck(p, x.amax((2, 3), keepdim=True)))
    if o.get("parts") != "channel":
        statistics = torch.cat([x.amax(1, keepdim=True), x.sum(1, keepdim=True) / x.shape[1]], dim=1)
        x = x * torch.sigmoid(p.norm("norm", p.conv("conv", statistics)))
    return x


def coordinate(p: Parameters, x: Tensor, o: Options) -> Tensor:
    def gate(means, name):
        h = p.norm("norm", p.conv("squeeze", means))
        return torch.sigmoid(p.conv(name, h * (h + 3).clamp(0, 6) / 6))

    return x * gate(x.mean(3, keepdim=True), "rows") * gate(x.mean(2, keepdim=True), "columns")


def global_context(p: Parameters, x: Tensor, o: Options) -> Tensor:
    e = p.conv("score", x).exp()
    h = p.conv("squeeze", (x * e).sum((2, 3), keepdim=True) / e.sum((2, 3), keepdim=True))
    centred = h - h.mean(1, keepdim=True)
    h = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    h = h * p["norm.weight"][:, None, None] + p["norm.bias"][:, None, None]
    return p.conv("excite", relu(h)).expand_as(x)


def residual_attention(p: Parameters, x: Tensor, o: Options) -> Tensor:
    def unit(name, x):
        h = x
        for i in (1, 2, 3):
            h = p.conv(f"{name}.conv{i}", relu(p.norm(f"{name}.norm{i}", h)))
        return x + h

    def max_pool(x):  # 3x3, stride 2; the last window of an even side has two rows
        rows, columns = x.shape[2] // 2, x.shape[3] // 2
        taps = [(i, j) for i in range(3) for j in range(3)]
        padded = pad(x, 0, 1, -torch.inf)
        return torch.stack([padded[:, :, i::2, j::2][:, :, :rows, :columns] for i, j in taps]).amax(0)

    a = unit("before", x)
    levels = [a]
    for i in range(o.get("depth", 1)):
        levels.append(unit(f"down.{i}", max_pool(levels[-1])))
    h = unit("bottom", levels.pop())
    for i, level in enumerate(reversed(levels[1:])):
        h = unit(f"up.{i}", enlarge(h, level.shape[2:]) + unit(f"skips.{i}", level))
    h = enlarge(h, a.shape[2:])
    for norm, conv in (("head.0", "head.2"), ("head.3", "head.5")):
        h = p.conv(conv, relu(p.norm(norm, h)))
    if o.get("normalization") == "channel":
        mask = h / h.square().sum(1, keepdim=True).sqrt()
    else:
        if o.get("normalization") == "spatial":
            centred = h - mean(h)
            h = centred / (mean(centred.square()) + 1e-5).sqrt()
        mask = torch.sigmoid(h)
    return unit("after", (1 + mask) * unit("trunk.1", unit("trunk.0", a)))


REFERENCES = {
    name.replace("_", "-"): f
    for name, f in list(globals().items())
    if name
    in (
        "residual",
        "sagan",
        "multihead",
        "additive",
        "non_local",
        "base_oc",
        "pyramid_oc",
        "asp_oc",
        "se",
        "ge",
        "cbam",
        "residual_attention",
        "global_context",
        "eca",
        "coordinate",
    )
}
