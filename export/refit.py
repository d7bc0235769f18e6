"""A convolution fitted anew, in closed form: fewer weights, what it reads has changed, and it shall give what it gave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.rom.sockets import Doubles, Socket
from edgecl.rom.torch_compat import torch

_ROUNDS = 2  # of pruning and fitting within a layer: what is left after each says better what to prune next
_SAMPLES = 8_192  # places of a convolution that it is fitted on, at most
_RIDGE = 1e-3  # of the mean square of what a layer reads


def fitted(
    weight: Doubles, groups: int, read: Doubles, wanted: Doubles, share: float
) -> tuple[NDArray[np.float32], Doubles, NDArray[np.bool_]]:
    """A convolution's weights (C, q...) with `share` of each row gone, the bias (C,) to add, and which are gone.

    read: (samples, groups, q), what it reads.   wanted: (samples, C), what it shall give. Least squares with a small ridge
    towards the old weights, so that what the samples do not tell stays as it was.
    """
    shape = weight.shape
    rows, q = shape[0] // groups, read.shape[2]
    old = weight.reshape(groups, rows, q)
    x_mean, y_mean = read.mean(0), wanted.mean(0)
    x = (read - x_mean).transpose(1, 0, 2)
    y = (wanted - y_mean).T.reshape(groups, rows, -1)
    gram = x.transpose(0, 2, 1) @ x
    ridge = _RIDGE * max(1e-12, float(np.trace(gram, axis1=1, axis2=2).mean()) / q)
    gram[:, np.arange(q), np.arange(q)] += ridge
    cross: Doubles = y @ x + ridge * old
    size = np.sqrt(np.einsum("gii->gi", gram))[:, None]
    kept = np.ones(old.shape, np.bool_)
    new: Doubles = _solved(gram, cross, kept)
    for i in range(_ROUNDS if share else 0):
        gone = round(share * (i + 1) / _ROUNDS * q)
        score = np.where(kept, np.abs(new) * size, -1.0)
        np.put_along_axis(kept, np.argsort(score, -1, kind="stable")[..., :gone], False, -1)
        new = _solved(gram, cross, kept)
    bias = y_mean - np.einsum("grq,gq->gr", new, x_mean).reshape(-1)
    return new.reshape(shape).astype(np.float32), bias.astype(np.float64), ~kept.reshape(shape)


def _solved(gram: Doubles, cross: Doubles, kept: NDArray[np.bool_]) -> Doubles:
    """For each row the least squares over the weights that it keeps; the others are exactly 0."""
    if kept.all():
        whole = np.linalg.solve(gram, cross.transpose(0, 2, 1)).transpose(0, 2, 1).astype(np.float64)
        return whole
    out = np.zeros(cross.shape)
    for g, r in np.ndindex(*kept.shape[:2]):
        own = np.flatnonzero(kept[g, r])
        out[g, r, own] = np.linalg.solve(gram[g][np.ix_(own, own)], cross[g, r, own])
    return out


def places_of(shape: Any, q: int, socket: Socket) -> Any:
    """(n, m) of an output's (n, C, h, w) places that are looked at, flat; the same for the same shapes."""
    n, _, h, w = shape
    count = min(h * w, max(1, min(_SAMPLES, 512 if socket.depthwise else max(4096, 8 * q)) // n))
    rng = np.random.default_rng([n, h, w])
    return torch.from_numpy(np.stack([np.sort(rng.permutation(h * w)[:count]) for _ in range(n)]))


def outputs_at(y: Any, places: Any) -> Doubles:
    """(n, C, h, w) at the places -> (samples, C)."""
    flat = y.flatten(2)
    some = torch.gather(flat, 2, places[:, None].expand(-1, flat.shape[1], -1))
    out: Doubles = some.transpose(1, 2).reshape(-1, flat.shape[1]).double().numpy()
    return out


def inputs_at(conv: Any, x: Any, places: Any) -> Doubles:
    """What the convolution reads for its outputs at the places, (samples, groups, q)."""
    k, groups = conv.kernel_size, conv.groups
    if k == (1, 1) and conv.stride == (1, 1):
        rows = outputs_at(x, places)
        return rows.reshape(len(rows), groups, -1)
    padded = _padded(conv, x)
    for axis in (0, 1):  # a view: of the patches only those that are looked at are ever made
        padded = padded.unfold(2 + axis, conv.dilation[axis] * (k[axis] - 1) + 1, conv.stride[axis])
    patches = padded[..., :: conv.dilation[0], :: conv.dilation[1]]
    width = patches.shape[3]
    some = patches[torch.arange(len(x))[:, None], :, places // width, places % width]
    found: Doubles = some.flatten(0, 1).double().numpy()
    return found.reshape(len(found), groups, -1)


def _padded(conv: Any, x: Any) -> Any:
    """The picture with the margin that the convolution gives it; timm's "same" layers decide at run time."""
    if isinstance(conv.padding, str) or type(conv) is not torch.nn.Conv2d:
        need = [
            max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, s, k, d in zip(x.shape[2:], conv.stride, conv.kernel_size, conv.dilation, strict=True)
        ]
        return torch.nn.functional.pad(x, [need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2])
    return torch.nn.functional.pad(x, [conv.padding[1]] * 2 + [conv.padding[0]] * 2)
