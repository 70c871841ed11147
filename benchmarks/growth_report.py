"""What follows from the measured points of `benchmarks.growth`: exponents, figure, projection."""

from pathlib import Path

from benchmarks.fit import PowerLaw, fit_power_law
from benchmarks.growth_figure import draw_growth
from benchmarks.projection import ASSUMPTIONS, EPOCHS, PAIRS, on_paper
from experiments.run.display import align

ON_PAPER = (("gpt2", 1), ("gpt2", 8), ("gpt2-xl", 1), ("gpt2-xl", 8))
GPT2 = 124_439_808  # parameters

Points = dict[str, dict[str, list[tuple[float, float]]]]


def conclude(curves: dict[str, list[dict]], figure: Path) -> dict:
    """Return exponents and projections of the curves, and draw the figure."""
    points = _points(curves)
    fits = {
        cost: {quantity: _fit(pairs) for quantity, pairs in by_quantity.items()}
        for cost, by_quantity in points.items()
    }
    model = curves["length"][0]["model"]
    draw_growth(
        points, fits, f"A step of SFT, all weights; {model} where the model does not grow", figure
    )
    return {
        "fits": {
            cost: {quantity: fit and fit._asdict() for quantity, fit in by_quantity.items()}
            for cost, by_quantity in fits.items()
        },
        "projection": {
            "here": _by_measurement(curves["model"], fits["seconds"]["model"]),
            "on_paper": [on_paper(model, gpus) for model, gpus in ON_PAPER],
            "assumptions": ASSUMPTIONS,
        },
    }


def _points(curves: dict[str, list[dict]]) -> Points:
    """Return cost -> quantity -> points; memory is what stands above an idle process's."""

    def x(quantity: str, row: dict) -> float:
        return row["parameters" if quantity == "model" else quantity]

    def memory(row: dict) -> float:
        return max(1.0, row["peak_memory_mib"] - row["idle_memory_mib"])

    costs = {"seconds": lambda row: row["seconds"], "memory": memory}
    return {
        cost: {
            quantity: [(x(quantity, row), of(row)) for row in rows]
            for quantity, rows in curves.items()
        }
        for cost, of in costs.items()
    }


def _fit(points: list[tuple[float, float]]) -> PowerLaw | None:
    return fit_power_law(*zip(*points))


def _by_measurement(rows: list[dict], fit: PowerLaw | None) -> dict | None:
    """Return the hours of the paper's run on this machine by the step of GPT-2 124M.

    Where that was not measured it is the power law's, if there is one.
    """
    steps = EPOCHS * PAIRS / rows[0]["batch"]
    for row in rows:
        if row["model"] == "gpt2":
            return {"hours": steps * row["seconds"] / 3600, "extrapolated": False}
    return fit and {"hours": steps * fit(GPT2) / 3600, "extrapolated": True}


def growth_table(quantity: str, rows: list[dict]) -> list[str]:
    """Return a curve's measurements as the lines of a table."""
    headings = [quantity, "s a step", "peak MiB", "parameters"]
    cells = [
        [
            f"{row[quantity]:,}" if quantity != "model" else row[quantity],
            f"{row['seconds']:.4g}",
            f"{row['peak_memory_mib']:,.0f}",
            f"{row['parameters']:,}",
        ]
        for row in rows
    ]
    if quantity == "examples":
        headings.append("bytes a token more")
        for line, row in zip(cells, rows):
            line.append(f"{row['bytes_per_token']:.2f}" if "bytes_per_token" in row else "-")
    return align([headings, *cells])


def conclusion_tables(found: dict) -> list[str]:
    """Return what `conclude` found as lines: exponents, projections, and what they assume."""
    lines = [("grows with", "time's exponent", "memory's exponent", "left out")]
    for quantity in found["curves"]:
        fits = [found["fits"][cost][quantity] for cost in ("seconds", "memory")]
        exponents = ["-" if fit is None else str(PowerLaw(**fit)) for fit in fits]
        left_out = ", ".join(map(str, found["left_out"][quantity])) or "-"
        lines.append((quantity, *exponents, left_out))
    return [*align(lines), "", *_projection_lines(found["projection"])]


def _projection_lines(projection: dict) -> list[str]:
    here = projection["here"]
    lines = []
    if here is not None:
        how = "by the power law" if here["extrapolated"] else "by its measured step"
        lines = [f"the paper's run, gpt2, on this machine, {how}: {here['hours']:,.0f} hours", ""]
    table = [("on paper", "GPUs", "minutes", "products", "optimizer", "gradients", "GB", "parts")]
    for row in projection["on_paper"]:
        parts = [f"{row[f'{name}_minutes']:.2f}" for name in ("products", "optimizer", "gradients")]
        memory = "-" if row["gb"] is None else f"{row['gb']:.0f}"
        minutes = f"{row['minutes']:.1f}"
        table.append(
            (
                row["model"],
                str(row["gpus"]),
                minutes,
                *parts,
                memory,
                str(row["microbatches"] or "-"),
            )
        )
    return [*lines, *align(table), "", *(f"- {each}" for each in projection["assumptions"])]
