"""Sockets in PyTorch: found by walking a network, filled by plugs, and the network cut below the first one in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgecl.errors import RomError
from edgecl.rom.sockets import Plugs, Socket
from edgecl.rom.torch_compat import torch

nn, functional = torch.nn, torch.nn.functional
Tensor: TypeAlias = torch.Tensor


def find_sockets(network: torch.nn.Module, size: int) -> tuple[Socket, ...]:
    """Every 2-D convolution of `network` in the order of running, with the batch norm that directly follows it.

    Found by one forward pass of zeros (1, 3, size, size), in which each module says which tensor object it took and gave:
    no model family is known by name. A convolution that does not run exactly once has no socket.
    """
    names = {module: name for name, module in network.named_modules()}
    order: list[torch.nn.Module] = []
    given: dict[int, torch.nn.Module] = {}  # id of a convolution's output -> the convolution
    readers: dict[torch.nn.Module, list[torch.nn.Module]] = {}
    kept: list[Any] = []  # outputs stay alive, so that their ids stay their own

    def hook(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for value in inputs:
            if id(value) in given:
                readers.setdefault(given[id(value)], []).append(module)
        if isinstance(module, nn.Conv2d):
            order.append(module)
            given[id(output)] = module
            kept.append(output)

    leaves = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or not list(m.children())]
    handles = [module.register_forward_hook(hook) for module in leaves]
    was_training = network.training
    try:
        parameter = next(network.parameters())
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    once = [conv for conv in order if order.count(conv) == 1]
    found: dict[str, Socket] = {}
    for conv in once:
        norm = _sole(readers.get(conv, []), nn.BatchNorm2d)
        found[names[conv]] = Socket(
            name=names[conv],
            channels=conv.out_channels,
            side=max(conv.kernel_size),
            depthwise=conv.groups == conv.out_channels == conv.in_channels,
            norm=names[norm] if norm is not None else "",
            eps=float(norm.eps) if norm is not None else 0.0,
        )
    for conv in once:  # a bias may move on through a 1x1 convolution, which knows no border
        after = _sole(readers.get(conv, []), nn.Conv2d)
        if after in once and after.kernel_size == (1, 1) and after.groups == 1 and found[names[after]].norm:
            found[names[conv]] = Socket(**{**found[names[conv]].to_dict(), "feeds": names[after]})
    return tuple(found.values())


def _sole(readers: Sequence[torch.nn.Module], kind: type) -> Any:
    return readers[0] if len(readers) == 1 and isinstance(readers[0], kind) else None


class Place(torch.nn.Module):
    """A socket of a network that runs: stands where the norm (or, without one, the convolution) stood.

    Without a plug it calls what it replaced, so that the plain network stays bit for bit what it was.
    """

    def __init__(self, socket: Socket, module: torch.nn.Module) -> None:
        super().__init__()
        self.socket, self.module = socket, module
        self.shift: Tensor | None = None  # (C,) for all pictures, or (n, C)
        self.kernel: Tensor | None = None  # (C, K, K) for all pictures, or (n, C, K, K)
        self.scrambled: Tensor | None = None  # (C,)

    def clear(self) -> None:
        """Back to the plain ROM."""
        self.shift = self.kernel = self.scrambled = None

    def forward(self, x: Tensor) -> Tensor:
        if self.shift is None and self.kernel is None and self.scrambled is None:
            out: Tensor = self.module(x)
            return out
        norm = self.module if self.socket.norm else None
        c = x if norm is not None else self.module(x)
        if self.scrambled is not None:
            c = scrambled_bias(c, self.scrambled)
        y = c
        if norm is not None:
            y = functional.batch_norm(c, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        if self.shift is not None:
            y = y + self.shift.reshape(-1, self.socket.channels, 1, 1)
        if self.kernel is not None:
            y = y + depthwise(c, self.kernel)
        return activation(norm, y) if norm is not None else y


def activation(norm: torch.nn.Module, y: Tensor) -> Tensor:
    """What timm's norm layers do after normalising; nothing for a plain batch norm."""
    for part in ("drop", "act"):
        if isinstance(getattr(norm, part, None), nn.Module):
            y = getattr(norm, part)(y)
    return y


def depthwise(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Each channel with its own kernel, zero padding, same size; kernel (C, K, K), or (n, C, K, K) with one per picture.

    bias: (C,), for the first form.
    """
    side = kernel.shape[-1]
    if kernel.ndim == 3:
        return functional.conv2d(x, kernel.unsqueeze(1), bias, padding=side // 2, groups=x.shape[1])
    flat = x.reshape(1, -1, *x.shape[2:])
    out = functional.conv2d(flat, kernel.reshape(-1, 1, side, side), padding=side // 2, groups=flat.shape[1])
    return out.reshape(x.shape)


def scrambled_bias(x: Tensor, beta: Tensor) -> Tensor:
    """The bias layout of BB's reference code: y[n,c,h,w] = x[n,c,h,w] + beta[(c*H*W + h*W + w) mod C].

    It reads the (C, H, W) buffer as (H, W, C). Equal to a bias per channel only where H = W = 1.
    """
    _, c, h, w = x.shape
    pattern = beta.repeat(h * w).reshape(c, h, w)
    return x + pattern


def install(network: torch.nn.Module, sockets: Sequence[Socket]) -> dict[str, Place]:
    """Put a `Place` at each socket of `network`, in place; socket name -> place."""
    places = {}
    for socket in sockets:
        path = socket.norm or socket.name
        try:
            module = network.get_submodule(path)
        except AttributeError:
            raise RomError(f"the ROM names a socket '{socket.name}' at '{path}', its network has no such module") from None
        channels = getattr(module, "num_features", None) or getattr(module, "out_channels", None)
        if channels != socket.channels:
            raise RomError(f"the ROM's socket '{socket.name}' has {socket.channels} channels, its network {channels} there")
        places[socket.name] = Place(socket, module)
        parent, _, leaf = path.rpartition(".")
        setattr(network.get_submodule(parent), leaf, places[socket.name])
    return places


def fill(places: Mapping[str, Place], plugs: Sequence[Plugs], device: Any = "cpu") -> None:
    """Set the places to `plugs`: one for all pictures of the next call, or one per picture."""
    for place in places.values():
        place.clear()
    first = plugs[0]
    if all(p is first for p in plugs):
        plugs = [first]
    names = {kind: dict.fromkeys(n for p in plugs for n in getattr(p, kind)) for kind in ("shift", "kernel", "scrambled")}
    if names["scrambled"] and len(plugs) > 1:
        raise RomError("scrambled biases cannot be mixed in one call of the network")
    for kind, used in names.items():
        for name in used:
            values = [getattr(p, kind).get(name) for p in plugs]
            if kind == "kernel":
                values = _same_side(values)
            zero = np.zeros_like(next(v for v in values if v is not None))
            stacked = np.stack([zero if v is None else np.asarray(v, np.float32) for v in values])
            tensor = torch.from_numpy(stacked[0] if len(plugs) == 1 else stacked).to(device)
            setattr(places[name], kind, tensor)


def _same_side(kernels: Sequence[Any]) -> list[Any]:
    """Kernels of one socket padded with zeros to the largest of them, which changes nothing that they compute."""
    side = max(k.shape[-1] for k in kernels if k is not None)
    out = []
    for kernel in kernels:
        if kernel is not None and kernel.shape[-1] < side:
            margin = (side - kernel.shape[-1]) // 2
            kernel = np.pad(kernel, ((0, 0), (margin, margin), (margin, margin)))
        out.append(kernel)
    return out


class _Tracer(torch.fx.Tracer):
    """Convolutions, norms, `whole` modules and whatever has no children are taken as they are."""

    def __init__(self, whole: tuple[type, ...]) -> None:
        super().__init__()
        self._whole = (nn.Conv2d, nn.BatchNorm2d, Place, *whole)

    def is_leaf_module(self, m: torch.nn.Module, qualified_name: str) -> bool:
        return isinstance(m, self._whole) or not list(m.children())


def cut(network: torch.nn.Module, first: str, whole: tuple[type, ...] = ()) -> tuple[torch.nn.Module, torch.nn.Module] | None:
    """`network` as (lower, upper) with upper(lower(x)) = network(x) and module `first` in upper; None where it cannot be cut.

    whole: kinds of modules that are not looked into.

    The cut is the last place before `first` at which a single tensor holds all that the rest needs. The halves share the
    network's modules; plugs set there act here.
    """
    try:
        graph = _Tracer(whole).trace(network)
    except Exception:  # tracing fails in ways of its own for networks with control flow; they are then not cut
        return None
    nodes = list(graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    target = next((i for i, n in enumerate(nodes) if n.op == "call_module" and n.target == first), None)
    if target is None:
        return None
    last_use = [max((place[user] for user in node.users), default=-1) for node in nodes]
    computed = [i for i, n in enumerate(nodes) if n.op != "get_attr"]
    at = None
    for i in computed:
        if i >= target or nodes[i].op == "placeholder":
            continue
        live = [j for j in computed if j <= i and last_use[j] > i]
        if live == [i] and nodes[i].op == "call_module":
            at = nodes[i]
    if at is None:
        return None
    lower, upper = torch.fx.Graph(), torch.fx.Graph()
    copies: dict[Any, Any] = {}
    for node in nodes[: place[at] + 1]:
        copies[node] = lower.node_copy(node, lambda n: copies[n])
    lower.output(copies[at])
    copies = {at: upper.placeholder("x")}
    for node in nodes[place[at] + 1 :]:
        if node.op == "placeholder":
            continue
        copies[node] = upper.node_copy(node, lambda n: copies[n])
    for node in nodes[: place[at]]:
        if node.op == "get_attr" and any(place[user] > place[at] for user in node.users):
            return None
    return torch.fx.GraphModule(network, lower), torch.fx.GraphModule(network, upper)
