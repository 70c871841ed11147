"""LoRA on a whole model: which layers get an adapter, and what is done to all of them at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from lora.dora import DoRALinear
from lora.layer import LoRALinear
from minigpt.errors import InputError, listed

# Full names, since a bare `c_proj` would hit the attention's and the MLP's alike.
_ATTENTION = ("h.*.attn.c_attn", "h.*.attn.c_proj")
_MLP = ("h.*.mlp.c_fc", "h.*.mlp.c_proj")
TARGETS: dict[str, tuple[str, ...]] = {
    "attention": _ATTENTION,
    "mlp": _MLP,
    "all": _ATTENTION + _MLP,
}
MOST_ALPHA = 1_000_000  # far beyond sense, and far from what overflows
_EXPECTED_TARGET = f"one of {', '.join(TARGETS)}, or globs over full module names"


@dataclass(frozen=True)
class LoRAConfig:
    """What decides an adapter's shape and strength. Raises InputError for values without sense."""

    rank: int = 8  # r, of the correction to each weight
    alpha: float = 16.0  # the correction is scaled by alpha / rank
    dropout: float = 0.0  # probability, on the adapter's input while training
    # Names of TARGETS, or globs over full module names; a `*` also spans dots.
    targets: str | tuple[str, ...] = "all"
    rank_stabilised: bool = False  # scale by alpha / sqrt(rank) instead
    layers: tuple[int, ...] | None = None  # numbers of the blocks that get adapters; None: all
    # Pairs (target, rank) for layers with a rank of their own, their alpha as ever; the first wins.
    rank_pattern: tuple[tuple[str, int], ...] = ()
    dora: bool = False  # train the lengths of the weights' rows too: DoRALinear for LoRALinear

    def __post_init__(self):
        _check_rank("rank", self.rank)
        for pair in self.rank_pattern:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise InputError(f"rank_pattern has {pair!r}; expected pairs such as ('mlp', 4)")
            _check_rank(f"rank_pattern for {pair[0]!r}", pair[1])
        if not isinstance(self.alpha, (int, float)) or not 0 < self.alpha <= MOST_ALPHA:
            raise InputError(
                f"alpha is {self.alpha!r}; expected a positive number up to {MOST_ALPHA:,}"
            )
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout!r}; expected a probability in [0, 1)")
        if not self.targets:
            raise InputError(f"targets is {self.targets!r}; expected {_EXPECTED_TARGET}")
        if self.layers is not None and not (isinstance(self.layers, tuple) and self.layers):
            raise InputError(f"layers is {self.layers!r}; expected a tuple of numbers, or None")

    def rank_of(self, name: str) -> int:
        """The rank of the adapter on the layer of this full name."""
        ranks = (rank for target, rank in self.rank_pattern if _matches(name, target))
        return next(ranks, self.rank)


def _check_rank(what: str, rank: int) -> None:
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise InputError(f"{what} is {rank!r}; expected a positive whole number")


def inject(
    model: nn.Module, config: LoRAConfig, *, generator: torch.Generator | None = None
) -> list[str]:
    """Put an adapter on every linear that the config's targets match; freeze all else, in place.

    Returns the full names of the matched layers, in the model's order. A in each layer is drawn
    from `generator` in that order. Raises InputError, and leaves the model alone, when a target,
    a block's number or a rank pattern matches nothing or a rank is larger than the weight's own;
    RuntimeError when the model has adapters already.
    """
    if lora_layers(model):
        raise RuntimeError("the model has LoRA adapters already; expected a model without")
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    names = _in_blocks(_match(list(linears), config.targets), config.layers)
    _check_ranks({name: linears[name] for name in names}, config)
    model.requires_grad_(False)
    make_layer = DoRALinear if config.dora else LoRALinear
    for name in names:
        layer = make_layer(
            linears[name],
            config.rank_of(name),
            config.alpha,
            config.dropout,
            rank_stabilised=config.rank_stabilised,
            generator=generator,
        )
        model.set_submodule(name, layer)
    return names


def _globs(target: str) -> tuple[str, ...]:
    return TARGETS.get(target, (target,))


def _matches(name: str, target: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in _globs(target))


def _match(names: list[str], targets: str | tuple[str, ...]) -> list[str]:
    """The names that any target matches, in their order; every target must match one."""
    targets = (targets,) if isinstance(targets, str) else targets
    globs = [glob for target in targets for glob in _globs(target)]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise InputError(
                f"target {glob!r} matches no linear layer; expected {_EXPECTED_TARGET}, "
                f"such as {', '.join(names[:4])}"
            )
    return [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]


def block_number(name: str) -> int | None:
    """The 3 of h.3.attn.c_attn: the first number in a full name, as PEFT counts layers."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _in_blocks(names: list[str], layers: tuple[int, ...] | None) -> list[str]:
    """The names in the blocks of these numbers; every number must have one. All for None."""
    if layers is None:
        return names
    blocks = {block_number(name) for name in names} - {None}
    for layer in layers:
        if layer not in blocks:
            raise InputError(
                f"layers has {layer!r}, which is no block with a target in this model; "
                f"expected some of {', '.join(map(str, sorted(blocks))) or 'none'}"
            )
    return [name for name in names if block_number(name) in layers]


def _check_ranks(linears: dict[str, nn.Linear], config: LoRAConfig) -> None:
    """Refuse patterns that match none of the layers to adapt, and ranks beyond a weight's own."""
    for target, _ in config.rank_pattern:
        if not any(_matches(name, target) for name in linears):
            raise InputError(
                f"rank_pattern has {target!r}, which matches no layer that gets an adapter; "
                f"expected a target such as {', '.join(list(linears)[:4])}"
            )
    for name, linear in linears.items():
        rank, largest = config.rank_of(name), min(linear.weight.shape)
        if rank > largest:
            raise InputError(f"rank is {rank}; expected at most {largest} for {name}")


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers with an adapter under their full names, in the model's order; {} if none."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LoRALinear)}


def adapted_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The same for a model that must have adapters; raises RuntimeError if it has none."""
    layers = lora_layers(model)
    if not layers:
        raise RuntimeError("the model has no LoRA adapters; expected inject(model, config) before")
    return layers


def merge(model: nn.Module) -> None:
    """Add every adapter into its base weight. RuntimeError if one is merged or disabled."""
    for layer in adapted_layers(model).values():
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Give every base its own weight back, bit for bit. RuntimeError if one is not merged."""
    for layer in adapted_layers(model).values():
        layer.unmerge()


def unload(model: nn.Module) -> None:
    """Take merged adapters off, for good: plain layers again, which compute exactly the same.

    Each layer's base, with the correction in its weight, takes the layer's place; it is the plain
    class or the fast one that `minigpt.accelerate` has made of it. All parameters can be trained
    again, as in a model that was never adapted. Raises RuntimeError, and changes nothing, if an
    adapter is not merged.
    """
    layers = adapted_layers(model)
    if left := [name for name, layer in layers.items() if not layer.merged]:
        raise RuntimeError(
            f"the adapters of {listed(left, 3)} are not merged; expected merge(model) before"
        )
    for name, layer in layers.items():
        model.set_submodule(name, layer.base)
    model.requires_grad_(True)


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Within the block the model is its base: a reference policy that costs no memory.

    Afterwards each layer is as it was before, which need not be enabled: blocks may nest.
    Raises RuntimeError if an adapter is merged.
    """
    before = {layer: layer.enabled for layer in adapted_layers(model).values()}
    try:
        for layer in before:
            layer.enabled = False
        yield
    finally:
        for layer, enabled in before.items():
            layer.enabled = enabled


def trainable_parameters(model: nn.Module) -> tuple[int, int]:
    """How many numbers are trained, and how many there are in all, adapters included."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
