"""The process of one part: `python -m benchmarks.gpu_parts.worker NAME SETTINGS`, as JSON."""

import json
import sys

from benchmarks.gpu_parts.part import STOPPED, Settings, write_part
from benchmarks.gpu_parts.plan import make_plan
from experiments.run.memory import keep_freed_memory


def work(name: str, settings: Settings) -> None:
    """Measure a part and keep its rows as they come; raises what the part raises."""
    part = next(part for part in make_plan(settings) if part.name == name)
    rows: list[dict] = []

    def report(**row) -> None:
        rows.append(row)
        write_part(settings.out, name, status=STOPPED, rows=rows)  # until its end is known

    part.measure(settings, report)


if __name__ == "__main__":
    keep_freed_memory()  # as every command of ours does
    work(sys.argv[1], Settings(**json.loads(sys.argv[2])))
