"""Pictures of a model's insides: who looks at whom, tokens by heat, spectra, margins.

Everything is returned, nothing is printed. In a notebook `%matplotlib inline` makes a cell show
the figure that it ends with; `figure.savefig(path)` works anywhere.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from minigpt.errors import InputError, shown
from minigpt.palette import BLUE, GREY, HEAT, VERMILLION, luminance, rgb, style

_VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "→"})
_LABEL = 0.13  # inches that a token's name takes


def attention_grid(
    weights: Tensor,
    tokens: Sequence[str],
    *,
    blocks: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Figure:
    """Return a grid of attention maps, blocks downwards and heads to the right; None: all of them.

    `weights` (L, H, T, T) are one sequence's: `minigpt.attention(model, ids)[:, 0]`. In each map a
    row is the token that looks and a column the one that is looked at. The tokens are named where
    there is room for it, with few maps or a short text. Raises InputError for other shapes.
    """
    T = len(tokens)
    if weights.dim() != 4 or weights.shape[2:] != (T, T):
        raise InputError(
            f"weights have the shape {tuple(weights.shape)}; "
            f"expected (L, H, {T}, {T}) for {T} tokens, one sequence's"
        )
    blocks, heads = blocks or range(weights.size(0)), heads or range(weights.size(1))
    side = min(max(8 / max(len(blocks), len(heads)), 1.25), 3.2)  # of a map, in inches
    size = (side * len(heads) + 1.5, side * len(blocks) + 0.8)
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots(len(blocks), len(heads), squeeze=False)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    maps = weights.detach().float().cpu().masked_fill(future, math.nan).numpy()
    labels = [visible(token) for token in tokens] if side >= _LABEL * T else []
    for (i, j), ax in np.ndenumerate(axes):
        image = ax.imshow(maps[blocks[i], heads[j]], cmap=HEAT, vmin=0, vmax=1)
        rows, columns = labels if j == 0 else [], labels if i == len(blocks) - 1 else []
        ax.set_yticks(range(len(rows)), rows, fontsize=7)
        ax.set_xticks(range(len(columns)), columns, fontsize=7, rotation=90)
        if i == 0:
            ax.set_title(f"head {heads[j]}", fontsize=9)
        if j == 0:
            ax.set_ylabel(f"block {blocks[i]}", fontsize=9)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.6)
    return figure


def visible(token: str) -> str:
    """Return a token's text with its spaces as ·, line breaks as ↵ and tabs as →."""
    return shown(token.translate(_VISIBLE), most=10 * len(token))  # escapes take up to 10


def token_heat_html(
    tokens: Sequence[str], values: Tensor | Sequence[float], *, limit: float | None = None
) -> str:
    """Return HTML of a text whose tokens are coloured by `values` (T,), blue above 0 and red below.

    Tokens below 0 are underlined too, and pointing at a token shows its value. The colour is full
    at `limit`, by default the value farthest from 0; one limit makes texts comparable. In a
    notebook, `IPython.display.HTML` shows it. Raises InputError unless each token has a finite
    value.
    """
    spans = []
    for token, value, (background, text) in _heat(tokens, values, limit):
        line = "underline dotted" if value < 0 else "none"
        looks = f"background:{_hex(background)};color:{_hex(text)};text-decoration:{line}"
        spans.append(f'<span title="{value:.3g}" style="{looks}">{escape(visible(token))}</span>')
        spans += ["<br>"] * token.count("\n")
    looks = "font-family:monospace;line-height:1.7;white-space:pre-wrap"
    return f'<div style="{looks}">{"".join(spans)}</div>'


def token_heat_text(
    tokens: Sequence[str], values: Tensor | Sequence[float], *, limit: float | None = None
) -> str:
    """Return what `token_heat_html` shows for a terminal with 24-bit colours, in ANSI escapes."""
    parts = []
    for token, value, (background, text) in _heat(tokens, values, limit):
        codes = [48, 2, *_bytes(background), 38, 2, *_bytes(text), *([4] if value < 0 else [])]
        parts.append(f"\x1b[{';'.join(map(str, codes))}m{visible(token)}\x1b[0m")
        parts += ["\n"] * token.count("\n")
    return "".join(parts)


def spectra(spectra: Mapping[str, Any]) -> Figure:
    """Return singular values (left) and the energy of the first k (right) of changes, by name.

    `spectra` are those of `lora.spectrum`, of which `values` and `energy`, both (K,), are drawn.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, found) in enumerate(spectra.items()):
        values, energy = (_numbers(each) for each in (found.values, found.energy))
        k = np.arange(1, len(values) + 1)
        looks = {**style(i)._asdict(), "markersize": 3, "label": name}
        left.plot(k, np.where(values > 0, values, np.nan), **looks)
        right.plot(k, energy, **looks)
    left.set(title="singular values", yscale="log")
    right.set(title="share of the squares in the first k", ylim=(0, 1.03))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel("k")
        ax.grid(alpha=0.25)
    right.legend(fontsize=8)
    return figure


def margins(margins: Mapping[str, Tensor], weight: Callable[[Tensor], Tensor]) -> Figure:
    """Return how margins (N,) are spread, by name, and over them how much a pair weighs.

    `weight` gives a margin's weight in the gradient: `objectives.dpo_weight` for DPO. The legend
    says of each spread what share of pairs has the chosen one ahead, and the mean weight.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    ax = figure.subplots()
    spread = np.concatenate([_numbers(each) for each in margins.values()])
    bins = np.linspace(min(spread.min(), 0), max(spread.max(), 0), 31)
    for i, (name, each) in enumerate(margins.items()):
        looks, ahead = style(i), float((each > 0).float().mean())
        ax.hist(
            _numbers(each),
            bins,
            weights=np.full(len(each), 1 / len(each)),
            histtype="step",
            linewidth=1.8,
            color=looks.color,
            linestyle=looks.linestyle,
            label=f"{name}: {ahead:.0%} ahead, mean weight {float(weight(each).mean()):.2f}",
        )
    _draw_weight(ax.twinx(), bins, weight)
    ax.axvline(0, color=GREY, linewidth=1)
    ax.set(xlabel="margin: chosen minus rejected reward, nats", ylabel="share of pairs")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(loc="outside lower center", fontsize=8)
    return figure


def _draw_weight(ax: Axes, bins: np.ndarray, weight: Callable[[Tensor], Tensor]) -> None:
    """Draw the weight over the margins, on the right-hand axis."""
    x = torch.linspace(float(bins[0]), float(bins[-1]), 200)
    ax.plot(x, _numbers(weight(x)), color=GREY, linestyle=":", linewidth=2)
    ax.set(ylabel="weight of a pair (dotted)", ylim=(0, None))


def _heat(tokens: Sequence[str], values: Tensor | Sequence[float], limit: float | None) -> list:
    """Return (token, value, (background, text colour)) of each token."""
    numbers = _numbers(torch.as_tensor(values, dtype=torch.float64))
    if numbers.shape != (len(tokens),) or not np.isfinite(numbers).all():
        raise InputError(
            f"values have the shape {numbers.shape} for {len(tokens)} tokens; "
            "expected one finite number for each"
        )
    full = float(np.abs(numbers).max(initial=0)) if limit is None else limit
    return [(t, v, _colours(v / full if full else 0.0)) for t, v in zip(tokens, numbers)]


def _colours(share: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a background between white (0) and full colour (+-1), and what is legible on it."""
    share, colour = min(abs(share), 1.0), rgb(BLUE if share > 0 else VERMILLION)
    background = tuple(1 - share * (1 - c) for c in colour)
    dark_text = luminance(background) > 0.18  # where black and white contrast alike
    return background, (0.0, 0.0, 0.0) if dark_text else (1.0, 1.0, 1.0)


def _bytes(colour: tuple[float, ...]) -> list[int]:
    return [round(255 * c) for c in colour]


def _hex(colour: tuple[float, ...]) -> str:
    return "#" + "".join(f"{b:02x}" for b in _bytes(colour))


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
